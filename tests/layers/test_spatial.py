import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers.spatial import SpatialAttention

RNG = np.random.default_rng(1)
X = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)

KINDS = pytest.mark.parametrize('normalise', ['sigmoid', 'softmax'])
MAPS = pytest.mark.parametrize('maps', [1, 2, 6])


@KINDS
@MAPS
def test_spatial_attention_map_multiplies_its_group_of_channels(normalise, maps, random_variables):
    layer = SpatialAttention(maps, normalise)
    out, importance = layer.apply(random_variables(layer, X), X)
    assert (importance.shape, importance.dtype) == ((2, 4, 5, maps), jnp.float32)
    assert out.shape == X.shape
    for group, channels in enumerate(np.split(np.arange(6), maps)):
        weight = importance[..., group, None]
        np.testing.assert_allclose(out[..., channels], X[..., channels] * weight, atol=1e-5)
    if normalise == 'sigmoid':
        assert 0 < importance.min() < importance.max() < 1
    else:
        assert importance.min() >= 0
        np.testing.assert_allclose(importance.mean((1, 2)), 1, atol=1e-5)


@KINDS
@pytest.mark.parametrize('size', [(1, 1), (3, 8)])
def test_spatial_attention_is_permutation_equivariant(normalise, size, random_variables):
    layer = SpatialAttention(2, normalise)
    x = RNG.normal(size=(2, *size, 4)).astype(np.float32)
    variables = random_variables(layer, x)
    order = RNG.permutation(size[0] * size[1])

    def shuffle(features):
        flat = features.reshape(2, len(order), -1)[:, order]
        return flat.reshape(features.shape)

    for after, before in zip(
        layer.apply(variables, shuffle(x)), layer.apply(variables, x), strict=True
    ):
        np.testing.assert_allclose(after, shuffle(before), atol=1e-5)


def test_spatial_attention_sees_other_pixels_only_with_softmax(random_variables):
    changed = X.copy()
    changed[:, 0, 0] += 1
    same = {}
    for normalise in ('sigmoid', 'softmax'):
        layer = SpatialAttention(normalise=normalise)
        variables = random_variables(layer, X)
        before, after = (layer.apply(variables, x)[1][:, 1:] for x in (X, changed))
        same[normalise] = np.allclose(before, after, rtol=1e-3)
    assert same == {'sigmoid': True, 'softmax': False}


@KINDS
def test_spatial_attention_keeps_parameters_and_importance_in_float32(normalise):
    layer = SpatialAttention(2, normalise, dtype=jnp.bfloat16)
    (out, importance), variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), X)
    assert (out.dtype, importance.dtype) == (jnp.bfloat16, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}


@pytest.mark.parametrize('maps', [0, 4, 7])
def test_spatial_attention_refuses_maps_that_do_not_divide_the_channels(maps):
    with pytest.raises(ValueError, match=f'{maps} attention maps do not divide 6 channels'):
        jax.eval_shape(SpatialAttention(maps).init, jax.random.key(0), X)
