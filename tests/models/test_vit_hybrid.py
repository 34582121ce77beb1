"""ViTs whose patches are of a ResNet's map."""

import jax
import numpy as np
import pytest
from small_vit import SMALL, B, D, L, jit, norm, random_variables, shapes

from vitjax.layers.convolution import Window
from vitjax.layers.patches import PatchEmbedding
from vitjax.models.vit import ViT


@pytest.mark.parametrize(
    ('size', 'patch', 'depths', 'grid', 'kernel', 'stem'),
    [
        (16, (4, 8), (), (4, 2), (1, 2), ['root']),
        ((24, 16), 8, (1,), (3, 2), (2, 2), ['root', 'stage1_block1']),
        (
            (16, 24),
            8,
            (2, 1),
            (2, 3),
            (1, 1),
            ['root', 'stage1_block1', 'stage1_block2', 'stage2_block1'],
        ),
        ((17, 9), 8, (), (3, 2), (2, 2), ['root']),
    ],
)
def test_hybrid_patches_are_of_the_map_of_its_stem(size, patch, depths, grid, kernel, stem):
    changes = dict(
        image_size=size, patch_size=patch, pad=True, in_channels=1, stem_depths=depths, stem_width=2
    )
    model = ViT(**SMALL | changes)
    height, width = (size, size) if isinstance(size, int) else size
    images = np.zeros((3, height, width, 1))
    features, variables = shapes(model, images, method='features')
    params = variables['params']
    tokens = grid[0] * grid[1]
    assert set(variables) == {'params'}
    assert list(params['backbone']) == stem
    channels = 8 * 2 ** (len(depths) - 1) if depths else 2
    assert params['patch_embedding']['kernel'].shape == (*kernel, channels, D)
    assert params['positions'].shape == (1, 1 + tokens, D)
    assert features['tokens'].shape == (3, tokens, D)

    windows = model.windows()
    assert list(windows) == [*stem, 'patches', 'block1', 'block2']
    assert windows['patches'] == (Window(kernel, kernel),)
    assert windows['block2'] == (Window(None, (1, 1)),)
    strides = [window.stride for steps in windows.values() for window in steps]
    assert tuple(np.prod(strides, axis=0)) == ((patch, patch) if patch == 8 else patch)
    assert len(features['blocks']) == L


def test_hybrid_embeds_the_output_of_its_stem():
    changes = dict(image_size=(8, 16), patch_size=8, positions='none', pooling='mean')
    model = ViT(**SMALL | changes, stem_depths=(1,), stem_width=2, num_classes=0)
    images = np.random.default_rng(1).normal(size=(B, 8, 16, 3)).astype(np.float32)
    variables = random_variables(model, images)
    params = variables['params']
    # Blocks of zeros add nothing to the tokens.
    params['encoder'] = jax.tree.map(np.zeros_like, params['encoder'])

    @jit
    def compute(images):
        features = model.apply(variables, images, method='features')
        stem = model.bind(variables).backbone(images)[-1]
        embedding = {'params': params['patch_embedding']}
        return features['tokens'], PatchEmbedding((2, 2), D).apply(embedding, stem)

    tokens, embedded = compute(images)
    np.testing.assert_allclose(tokens, norm(params, np.asarray(embedded)), atol=1e-3)
    assert np.ptp(tokens, axis=(0, 1)).max() > 0.1
