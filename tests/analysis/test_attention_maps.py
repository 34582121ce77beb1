import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

import vitjax
from vitjax.analysis import attention_maps, attention_rollout, receptive_field, reconstruct
from vitjax.analysis.attention import _over_image, draw_attention
from vitjax.data.preprocess import Preprocess
from vitjax.models.registry import create_model
from vitjax.pretrained import Pretrained

SIZES = dict(width=8, depth=2, num_heads=2, mlp_dim=8, num_classes=3)
# Patches of one pixel, so that nothing is interpolated.
PIXELS = SIZES | dict(image_size=(2, 3), patch_size=1)


def initialised(model):
    """Random variables, and two random images."""
    rng = np.random.default_rng(0)
    size = np.broadcast_to(model.image_size, 2)
    images = jnp.array(rng.normal(size=(2, *size, model.in_channels)), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(lambda x: jnp.array(rng.normal(size=x.shape), x.dtype), shapes), images


def test_attention_rollout_of_uniform_attention():
    depth, tokens = 3, 4
    attention = jnp.full((depth, 1, 2, tokens, tokens), 1 / tokens)
    kept = 0.5**depth
    expected = kept * np.eye(tokens) + (1 - kept) / tokens
    np.testing.assert_allclose(attention_rollout(attention)[0], expected, rtol=1e-6)


def test_attention_rollout_multiplies_from_the_first_block_to_the_last():
    # The first block copies token 2 to token 1, the second token 1 to token 0.
    moves = jnp.zeros((2, 3, 3)).at[0].set(jnp.eye(3)[jnp.array([0, 2, 2])])
    moves = moves.at[1].set(jnp.eye(3)[jnp.array([1, 1, 2])])
    found = attention_rollout(moves[:, None, None])[0]
    np.testing.assert_allclose(found[0], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(found.sum(-1), 1)


@pytest.mark.parametrize(
    ('options', 'pooled'),
    [
        (dict(pooling='cls', num_registers=1), [1, 0, 0, 0, 0, 0, 0, 0]),
        (dict(pooling='mean'), [1 / 6] * 6),
        (dict(pooling='mean', num_registers=2), [0, 0] + [1 / 6] * 6),
        (dict(pooling='mean', num_registers=2, pool_prefix=True), [1 / 8] * 8),
        (dict(pooling='cls_mean'), [1 / 2] + [1 / 12] * 6),
        (dict(pooling='cls', distillation='head'), [1 / 2, 1 / 2] + [0] * 6),
    ],
)
def test_attention_maps_equal_the_contribution_to_the_pooled_vector(options, pooled):
    model = create_model('vit', **PIXELS, **options)
    variables, images = initialised(model)
    found = attention_maps(model, variables, images)
    attention = model.apply(variables, images, method='features', attention=True)['attention']
    looks = {'last block': attention[-1].mean(axis=1), 'rollout': attention_rollout(attention)}
    assert found.keys() == looks.keys()
    for name, look in looks.items():
        reached = np.einsum('t,bts->bs', pooled, look)[:, -6:].reshape(2, 2, 3)
        expected = reached / reached.mean(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


@pytest.mark.parametrize('num_registers', [0, 2])
def test_attention_maps_with_map_pooling_follow_the_probe(num_registers):
    model = create_model('vit', **PIXELS, pooling='map', num_registers=num_registers)
    variables, images = initialised(model)
    # With zero keys the probe attends uniformly, which equals mean pooling.
    pooling = variables['params']['attention_pooling']
    pooling['attention']['key'] = jax.tree.map(jnp.zeros_like, pooling['attention']['key'])
    found = attention_maps(model, variables, images)
    attention = model.apply(variables, images, method='features', attention=True)['attention']
    reached = attention[-1].mean(axis=(1, 2))[:, num_registers:].reshape(2, 2, 3)
    expected = reached / reached.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found['last block'], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('vit', SIZES | dict(image_size=(7, 10), patch_size=(4, 3), pad=True)),
        ('mae', dict(image_size=8, patch_size=4, width=8, depth=1, num_heads=2)
         | dict(decoder_width=8, decoder_depth=1, decoder_num_heads=2)),
        ('r_vit_ti16', SIZES | dict(image_size=64, patch_size=32)),
        ('cnn', dict(image_size=(6, 9), widths=(4, 6), stage_depth=1, spatial_attention='sigmoid')),
    ],
)  # fmt: skip
def test_attention_maps_cover_the_image_for_every_kind_of_model(name, options):
    model = create_model(name, **options)
    variables, images = initialised(model)
    maps = jax.jit(lambda v, x: attention_maps(model, v, x))(variables, images)
    assert set(maps) == ({'stage 1', 'stage 2'} if name == 'cnn' else {'last block', 'rollout'})
    for look in maps.values():
        assert look.shape == images.shape[:3]
        np.testing.assert_allclose(look.mean(axis=(1, 2)), 1, rtol=1e-5)
        assert (np.asarray(look) >= 0).all()


def test_attention_maps_of_a_padded_hybrid_are_aligned_with_patches():
    # Its last map has 3 positions; patches of 2 cover them with one position of padding at the end.
    options = dict(image_size=12, patch_size=8, stem_depths=(), stem_width=8, pad=True)
    model = create_model('vit', **SIZES, **options)
    first = jnp.array([[1.0, 0, 0, 0]])
    found = np.asarray(_over_image(model, first))[0]
    assert found.shape == (12, 12)
    assert found[0, 0] == 1
    assert found[0, 7] > 0.5 > found[0, 8]  # the first patch ends at 8


def test_attention_maps_of_a_cnn_are_its_spatial_attention():
    options = dict(widths=(4, 6), attention_maps=2, spatial_attention='softmax')
    model = create_model('cnn', image_size=8, **options)
    variables, images = initialised(model)
    found = attention_maps(model, variables, images)['stage 1']
    importance = model.apply(variables, images, method='features', attention=True)['attention'][0]
    np.testing.assert_allclose(found, importance.mean(axis=-1), rtol=1e-5)


class Silent(nn.Module):
    """A model of another package that has attention of tokens but no method `pooling_weights`."""

    image_size: tuple[int, int] = (2, 3)
    patch_size: int = 1
    in_channels: int = 3

    def setup(self):
        self.inner = create_model('vit', **PIXELS, pooling='map')

    def __call__(self, images):
        return self.inner(images)

    def features(self, images, *, attention=False, train=False):
        return self.inner.features(images, attention=attention, train=train)


class Own(Silent):
    """A model of another package that has all required methods."""

    def pooling_weights(self, features):
        return self.inner.pooling_weights(features)


def test_attention_maps_accept_any_model_with_the_methods():
    variables, images = initialised(Own())
    found = attention_maps(Own(), variables, images)
    inner = {'params': variables['params']['inner']}
    expected = attention_maps(create_model('vit', **PIXELS, pooling='map'), inner, images)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


class Blind(Own):
    def features(self, images, *, attention=False, train=False):
        return {'pooled': self.inner(images)}


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (create_model('cnn', image_size=8, widths=(4,), stage_depth=1), 'no spatial attention'),
        (Silent(), r'attention_maps needs pooling_weights\(\), which Silent lacks'),
        (Blind(), r'features\(attention=True\) of Blind returns no attention'),
    ],
)
def test_attention_maps_refuse_a_model_without_attention(model, message):
    with pytest.raises(ValueError, match=message):
        attention_maps(model, *initialised(model))


@pytest.mark.parametrize('options', [{}, dict(pooling='map'), dict(pooling='cls_mean')])
def test_pooling_weights_sum_to_one(options):
    model = create_model('vit', **PIXELS, num_registers=1, **options)
    variables, images = initialised(model)
    features = model.apply(variables, images, method='features')
    weights = model.apply(variables, features, method='pooling_weights')
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ('analysis', 'needed'),
    [
        (lambda model: attention_maps(model, {}, None), r'features\(\)'),
        (lambda model: receptive_field(model), r'windows\(\)'),
        (
            lambda model: reconstruct(model, {}, None),
            r'predicted_pixels\(\), image_size, patch_size',
        ),
    ],
)
def test_attention_maps_name_missing_methods(analysis, needed):
    with pytest.raises(ValueError, match=f'needs {needed}, which Dense lacks'):
        analysis(nn.Dense(3))


def test_draw_attention_draws_a_row_for_each_image(tmp_path):
    model = create_model('vit', **SIZES, image_size=(4, 8), patch_size=2)
    variables, _ = initialised(model)
    preprocess = Preprocess((4, 8), 3, 1.0, (0.5,), (0.5,))
    pretrained = Pretrained(model, variables, preprocess, labels=None, info={})
    image, heights = np.zeros((4, 8, 3), np.uint8), []
    for count in (1, 3):
        draw_attention(pretrained, [image] * count, tmp_path / 'map.png')
        heights.append(Image.open(tmp_path / 'map.png').height)
    # A row of these images is one inch high; there are two more rows.
    assert heights[1] - heights[0] == 2 * 120
    with pytest.raises(vitjax.errors.UserError, match='cannot be written'):
        draw_attention(pretrained, [image], tmp_path / 'no' / 'map.png')
