import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.errors import UserError
from vitjax.models.registry import create_model
from vitjax.models.vit import ViT

SMALL = dict(
    image_size=(8, 12),
    patch_size=(2, 3),
    in_channels=2,
    width=8,
    depth=2,
    num_heads=2,
    mlp_dim=12,
    decoder_width=12,
    decoder_depth=1,
    decoder_num_heads=3,
)
B, N, HIDDEN = 3, 16, 12
MODEL = create_model('mae', **SMALL)
IMAGES = np.random.default_rng(0).normal(size=(B, 8, 12, 2)).astype(np.float32)
KEY = jax.random.key(3)


@functools.cache
def variables():
    shapes = jax.eval_shape(MODEL.init, KEY, IMAGES)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.3, shapes)


@jax.jit
def at_random(images, key):
    return MODEL.apply(variables(), images, rngs={'masking': key})


def tree_equal(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_mae_hides_its_share_of_patches_independently_per_image():
    result = at_random(IMAGES, KEY)
    assert result['prediction'].shape == (B, N, 2, 3, 2)
    np.testing.assert_array_equal(result['hidden'].sum(axis=1), HIDDEN)
    assert len(np.unique(result['hidden'], axis=0)) == B
    # Every patch has the same chance.
    hidden = [at_random(IMAGES, jax.random.key(seed))['hidden'] for seed in range(400)]
    np.testing.assert_allclose(np.mean(hidden, axis=(0, 1)), HIDDEN / N, atol=0.05)


def test_mae_prediction_does_not_depend_on_hidden_patches():
    result = at_random(IMAGES, KEY)
    rows, columns = 4, 4
    hidden = np.asarray(result['hidden']).reshape(B, rows, columns)
    pixels = hidden.repeat(2, axis=1).repeat(3, axis=2)[..., None]
    changed = at_random(np.where(pixels, 7.0, IMAGES), KEY)
    np.testing.assert_array_equal(changed['hidden'], result['hidden'])
    np.testing.assert_allclose(changed['prediction'], result['prediction'], atol=1e-6)
    changed = at_random(np.where(pixels, IMAGES, 7.0), KEY)
    assert not np.allclose(changed['prediction'], result['prediction'], atol=1e-2)


@pytest.mark.slow
def test_mae_mask_without_key_depends_only_on_the_image():
    apply = jax.jit(functools.partial(MODEL.apply, variables()))
    together = apply(IMAGES)
    for index in range(B):
        alone = apply(IMAGES[index : index + 1])
        np.testing.assert_array_equal(alone['hidden'][0], together['hidden'][index])
        np.testing.assert_allclose(
            alone['prediction'][0], together['prediction'][index], rtol=1e-4, atol=1e-5
        )
    assert len(np.unique(together['hidden'], axis=0)) == B


def test_mae_features_equal_its_encoder_without_hidden_patches():
    encoder = MODEL.encoder()
    assert isinstance(encoder, ViT)
    expected = encoder.apply(
        {'params': variables()['params']['vit']}, IMAGES, method='features', attention=True
    )
    found = MODEL.apply(variables(), IMAGES, method='features', attention=True)
    assert found['tokens'].shape == (B, N, 8)
    assert found['attention'].shape == (2, B, 2, 1 + N, 1 + N)
    assert tree_equal(found, expected)
    assert MODEL.windows() == encoder.windows()


def test_mae_targets_are_normalised_per_patch():
    target = np.asarray(MODEL.target(jnp.asarray(IMAGES)))
    np.testing.assert_allclose(target.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(target.var(axis=(2, 3, 4), ddof=1), 1, atol=1e-4)
    plain = create_model('mae', **SMALL, norm_pixels=False).target(IMAGES)
    np.testing.assert_array_equal(plain[0, 5], IMAGES[0, 2:4, 3:6])


@pytest.mark.slow
@pytest.mark.parametrize('switch', [{'scan': True}, {'remat': True}, {'scan': True, 'remat': True}])
def test_mae_scan_and_remat_do_not_change_results(switch):
    switched = create_model('mae', **SMALL, **switch)
    assert jax.eval_shape(switched.init, KEY, IMAGES) == jax.eval_shape(MODEL.init, KEY, IMAGES)
    found = jax.jit(switched.apply)(variables(), IMAGES, rngs={'masking': KEY})
    expected = at_random(IMAGES, KEY)
    np.testing.assert_allclose(found['prediction'], expected['prediction'], atol=1e-5)


def test_mae_in_bfloat16_keeps_parameters_and_predictions_in_float32():
    model = create_model('mae', **SMALL, dtype=jnp.bfloat16)
    result, created = jax.eval_shape(model.init_with_output, KEY, IMAGES)
    assert result['prediction'].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(created)} == {jnp.dtype('float32')}


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (
            {'mask_ratio': 0.0},
            'mask_ratio must leave some of the 16 patches hidden and some visible',
        ),
        ({'mask_ratio': 0.99}, 'which 0.99 does not'),
        ({'decoder_num_heads': 5}, r'multiple of 4 and of decoder_num_heads \(5\), not 12'),
        ({'decoder_width': 6}, 'decoder_width must be a multiple of 4'),
        ({'decoder_depth': 0}, 'decoder_depth must be at least 1'),
        ({'patch_size': 5}, 'patch height 5 does not divide image height 8'),
        ({'num_heads': 3}, 'num_heads 3 does not divide width 8'),
        ({'patch_size': 1, 'in_channels': 1}, 'patches of more than one value'),
    ],
)
def test_mae_refuses_invalid_arguments(overrides, message):
    with pytest.raises(UserError, match=message):
        create_model('mae', **SMALL | overrides)
