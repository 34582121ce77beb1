import jax
import numpy as np
import pytest

from vitjax.analysis import reconstruct
from vitjax.models.registry import create_model

SIZES = dict(image_size=4, patch_size=2, width=8, depth=1, num_heads=2, mask_ratio=0.5)
SIZES |= dict(decoder_width=8, decoder_depth=1, decoder_num_heads=2)
IMAGES = np.random.default_rng(0).normal(2, 3, size=(2, 4, 4, 3)).astype(np.float32)


@pytest.mark.parametrize('norm_pixels', [True, False])
def test_pictures_are_made_of_what_is_visible_and_what_is_predicted(norm_pixels):
    model = create_model('mae', **SIZES, norm_pixels=norm_pixels)
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    pictures_of = jax.jit(lambda variables: reconstruct(model, variables, IMAGES))
    pictures = pictures_of(variables)
    hidden = np.asarray(pictures['hidden'])
    assert hidden.mean() == 0.5
    np.testing.assert_array_equal(pictures['visible'], np.where(hidden, 0, IMAGES))
    made = np.asarray(pictures['reconstructed'])
    np.testing.assert_array_equal(made[~hidden], IMAGES[~hidden])

    # A model that predicts 0 everywhere: nothing, or with norm_pixels the mean of each patch.
    head = jax.tree.map(np.zeros_like, variables['params']['decoder_head'])
    variables = {'params': variables['params'] | {'decoder_head': head}}
    made = np.asarray(pictures_of(variables)['reconstructed'])[0, :2, :2]
    if hidden[0, 0, 0, 0]:
        expected = IMAGES[0, :2, :2].mean() if norm_pixels else 0
        np.testing.assert_allclose(made, expected, rtol=1e-5)
    else:
        np.testing.assert_array_equal(made, IMAGES[0, :2, :2])
