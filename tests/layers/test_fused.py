"""Attention for each hardware equals the plain lookup; off a TPU, splash attention is interpreted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers import fused
from vitjax.layers.attention import MultiHeadAttention, lookup

B, HEADS, T, S, D = 2, 2, 70, 130, 32
RNG = np.random.default_rng(0)
QUERY, KEY, VALUE = (
    jnp.asarray(RNG.normal(size=(B, HEADS, length, D)), jnp.float32) for length in (T, S, S)
)
PADDING = (np.arange(S) < np.array([[S], [90]]))[:, None, None]  # [B, 1, 1, S]
MASKS = pytest.mark.parametrize('mask', [None, PADDING], ids=['whole', 'padded'])


def plain(query, key, value, mask):
    return lookup(query, key, value, temperature=D**0.5, mask=mask)


@MASKS
@pytest.mark.parametrize('kernel', [fused.cpu_attention, fused.splash_attention])
def test_kernels_and_their_gradients_equal_lookup(kernel, mask):
    def learn(function):
        loss = lambda *inputs: (function(*inputs, mask) ** 2).sum()  # noqa: E731
        return function(QUERY, KEY, VALUE, mask), *jax.grad(loss, (0, 1, 2))(QUERY, KEY, VALUE)

    for found, expected in zip(learn(kernel), learn(plain), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('kernel', [fused.cpu_attention, fused.splash_attention])
def test_kernels_with_all_keys_masked_are_finite(kernel):
    mask = PADDING & np.array([True, False])[:, None, None, None]
    found = kernel(QUERY, KEY, VALUE, mask)
    np.testing.assert_allclose(found[0], plain(QUERY, KEY, VALUE, None)[0], atol=1e-5)
    assert np.isfinite(found).all()


def test_splash_attention_refuses_masks_that_differ_between_queries():
    with pytest.raises(ValueError, match=r'takes a mask \[B, 1, 1, S\].*not \(70, 130\)'):
        fused.splash_attention(QUERY, KEY, VALUE, np.ones((T, S), bool))


@MASKS
def test_cudnn_attention_gets_the_arguments_of_lookup(mask, monkeypatch):
    """cuDNN itself needs a GPU; here the same call goes to XLA."""
    call = jax.nn.dot_product_attention

    def without_cudnn(*inputs, mask, implementation):
        assert implementation == 'cudnn'
        assert mask is None or mask.shape[2:] == (T, S)  # of cuDNN's a query may not be left out
        return call(*inputs, mask=mask)

    monkeypatch.setattr(jax.nn, 'dot_product_attention', without_cudnn)
    found = fused.cudnn_attention(QUERY, KEY, VALUE, mask)
    np.testing.assert_allclose(found, plain(QUERY, KEY, VALUE, mask), atol=1e-5)
    causal = np.tril(np.ones((T, S), bool))
    found = fused.cudnn_attention(QUERY, KEY, VALUE, causal)
    np.testing.assert_allclose(found, plain(QUERY, KEY, VALUE, causal), atol=1e-5)


@pytest.mark.parametrize('weights', [False, True])
@pytest.mark.parametrize('kernel', ['cpu', 'splash'])
def test_multi_head_attention_is_the_same_for_all_kernels(kernel, weights):
    x = RNG.normal(size=(B, T, 64)).astype(np.float32)
    module = MultiHeadAttention(HEADS, kernel='xla')
    variables = module.init(jax.random.key(0), x)
    expected, _ = module.apply(variables, x)
    found, kept = module.copy(kernel=kernel).apply(variables, x, return_weights=weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (kept is not None) == weights


@pytest.mark.parametrize(
    ('platform', 'dtype', 'queries', 'width', 'mask', 'expected'),
    [
        ('cpu', 'bfloat16', 2048, 64, None, 'cpu'),
        ('cpu', 'float32', 197, 64, (8, 1, 197, 197), 'cpu'),
        ('gpu', 'bfloat16', 196, 64, None, 'cudnn'),
        ('gpu', 'bfloat16', 197, 64, None, 'xla'),
        ('gpu', 'bfloat16', 196, 64, (8, 1, 1, 196), 'xla'),
        ('gpu', 'float32', 196, 64, None, 'xla'),
        ('gpu', 'bfloat16', 196, 60, None, 'xla'),
        ('gpu', 'bfloat16', 196, 256, None, 'xla'),
        ('gpu', 'bfloat16', 1, 64, None, 'xla'),
        ('tpu', 'bfloat16', 197, 64, None, 'xla'),
        ('tpu', 'bfloat16', 1025, 64, None, 'splash'),
        ('tpu', 'bfloat16', 1025, 64, (8, 1, 1, 1025), 'splash'),
        ('tpu', 'bfloat16', 1025, 64, (8, 1, 1025, 1025), 'xla'),
    ],
)
def test_choose_kernel(platform, dtype, queries, width, mask, expected):
    array = jax.ShapeDtypeStruct((8, 12, queries, width), jnp.dtype(dtype))
    mask = mask and jax.ShapeDtypeStruct(mask, bool)
    assert fused.choose_kernel(array, array, mask, platform) == expected
