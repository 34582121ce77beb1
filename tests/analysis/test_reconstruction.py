import jax
import numpy as np
import pytest

from vitjax.analysis import reconstruct
from vitjax.layers.patches import patchify
from vitjax.models.registry import create_model

SIZES = dict(image_size=4, patch_size=2, width=8, depth=1, num_heads=2, mask_ratio=0.5)
SIZES |= dict(decoder_width=8, decoder_depth=1, decoder_num_heads=2)
IMAGES = np.random.default_rng(0).normal(2, 3, size=(2, 4, 4, 3)).astype(np.float32)


@pytest.fixture(params=[True, False], ids=['norm_pixels', 'pixels'])
def model(request):
    return create_model('mae', **SIZES, norm_pixels=request.param)


@pytest.fixture
def variables(model):
    return jax.jit(model.init)(jax.random.key(0), IMAGES)


def reconstruct_images(model, variables):
    """`reconstruct` of IMAGES, as NumPy arrays."""
    return jax.device_get(jax.jit(lambda x: reconstruct(model, x, IMAGES))(variables))


def test_reconstruct_keeps_visible_patches_and_hides_the_others(model, variables):
    pictures = reconstruct_images(model, variables)
    hidden = pictures['hidden']
    assert hidden.mean() == 0.5
    np.testing.assert_array_equal(pictures['visible'], np.where(hidden, 0, IMAGES))
    reconstructed = pictures['reconstructed']
    np.testing.assert_array_equal(reconstructed[~hidden], IMAGES[~hidden])
    assert (reconstructed[hidden] != IMAGES[hidden]).all()


def test_reconstruct_fills_hidden_patches_with_the_prediction(model, variables):
    """A model that predicts 0 everywhere: pixels of 0, or with norm_pixels the mean of each patch."""
    head = jax.tree.map(np.zeros_like, variables['params']['decoder_head'])
    zero = {'params': variables['params'] | {'decoder_head': head}}
    pictures = reconstruct_images(model, zero)
    patches, reconstructed, hidden = (
        np.asarray(patchify(x, model.patch_size))  # [B, N, Ph, Pw, C]
        for x in (IMAGES, pictures['reconstructed'], pictures['hidden'])
    )
    means = patches.mean(axis=(2, 3, 4), keepdims=True) if model.norm_pixels else 0
    expected = np.where(hidden, means, patches)
    np.testing.assert_allclose(reconstructed, expected, rtol=1e-5, atol=1e-6)
