import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.layers.attention import MultiHeadAttention, lookup
from vitjax.layers.positions import rotary_angles, rotate

# Keys that are orthogonal, and what is stored under them.
KEYS = np.eye(4, dtype=np.float32)[:3]
VALUES = np.array([[1, -2], [3, 5], [-7, 9]], np.float32)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_lookup_at_low_temperature_is_a_dictionary_lookup():
    np.testing.assert_array_equal(lookup(KEYS, KEYS, VALUES, temperature=1e-3), VALUES)


def test_lookup_of_integer_values_returns_float32():
    values = np.array([[1], [2], [4]])
    found = lookup(KEYS, KEYS, values, temperature=0.3)
    np.testing.assert_allclose(
        found, lookup(KEYS, KEYS, values.astype(np.float32), temperature=0.3)
    )
    assert found.dtype == np.float32


@pytest.mark.parametrize('temperature', [1e-3, 1.0, 50.0])
def test_lookup_without_matching_key_returns_the_mean(temperature):
    other = np.eye(4, dtype=np.float32)[3:]
    found = lookup(other, KEYS, VALUES, temperature=temperature)
    np.testing.assert_allclose(found[0], VALUES.mean(axis=0), rtol=1e-6)


@jax.jit
def lookup_with_weights(query, key, value, temperature, mask):
    return lookup(query, key, value, temperature=temperature, mask=mask, return_weights=True)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.sampled_from([(), (2, 3)]),
    temperature=st.floats(0.1, 10),
    visible=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_lookup_equals_the_formula_in_float64(batch, temperature, visible, seed):
    rng = np.random.default_rng(seed)
    query, key, value = (rng.normal(size=(*batch, *end)) for end in ((4, 3), (5, 3), (5, 2)))
    mask = rng.random((*batch, 4, 5)) < visible
    mask[..., 0] = True

    weights = np.exp(query @ key.swapaxes(-1, -2) / temperature) * mask
    weights /= weights.sum(-1, keepdims=True)
    found, found_weights = lookup_with_weights(query, key, value, temperature, mask)

    np.testing.assert_allclose(found_weights, weights, atol=1e-5)
    np.testing.assert_allclose(found, weights @ value, atol=1e-4)
    np.testing.assert_allclose(found_weights.sum(-1), 1, atol=1e-6)


def test_lookup_with_mask_equals_lookup_without_the_masked_keys():
    query, key, value = normal(3, 4), normal(5, 4), normal(5, 6)
    mask = np.array([True, False, True, True, False])

    @jax.jit
    def masked(key, value):
        found = lookup(query, key, value, mask=mask)
        return found.sum(), found

    gradients, found = jax.grad(masked, (0, 1), has_aux=True)(key, value)
    np.testing.assert_allclose(found, lookup(query, key[mask], value[mask]), atol=1e-6)
    for gradient in map(np.asarray, gradients):
        assert not gradient[~mask].any()
        assert gradient[mask].any()


def test_lookup_with_all_keys_masked_is_finite_and_so_is_its_gradient():
    mask = np.array([[True, True, True], [False, False, False]])

    @jax.jit
    def masked(query):
        return lookup(query, KEYS, VALUES, mask=mask).sum()

    value, gradient = jax.value_and_grad(masked)(KEYS[:2])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_lookup_does_not_overflow():
    np.testing.assert_array_equal(lookup(1e4 * KEYS, KEYS, VALUES), VALUES)


def test_lookup_is_invariant_to_the_order_of_keys():
    query, key, value = normal(3, 4), normal(5, 4), normal(5, 6)
    order = [3, 1, 4, 0, 2]
    np.testing.assert_allclose(
        lookup(query, key[order], value[order]), lookup(query, key, value), atol=1e-5
    )


def test_lookup_weights_are_float32_under_bfloat16():
    arrays = normal(3, 8), normal(64, 8), normal(64, 6)
    expected, expected_weights = lookup(*arrays, return_weights=True)
    found, weights = lookup(*(x.astype(jnp.bfloat16) for x in arrays), return_weights=True)

    assert (found.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, expected_weights, atol=0.02)
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=0.05)


D, HEADS, HEAD = 8, 2, 4
PROJECTION = {'kernel': (D, HEADS, HEAD), 'bias': (HEADS, HEAD)}
NORM = {'scale': (HEAD,), 'bias': (HEAD,)}
OUT = {'kernel': (HEADS, HEAD, D), 'bias': (D,)}
NO_BIAS = {name: {'kernel': PROJECTION['kernel']} for name in ('query', 'key', 'value')}
KINDS = [
    ({}, {}),
    ({'qk_norm': True}, {'query_norm': NORM, 'key_norm': NORM}),
    ({'qkv_bias': False}, NO_BIAS),
]


@pytest.mark.parametrize(('arguments', 'changes'), KINDS)
def test_multi_head_attention_parameters(arguments, changes):
    module = MultiHeadAttention(HEADS, dtype=jnp.bfloat16, **arguments)
    params = jax.eval_shape(module.init, jax.random.key(0), normal(1, 3, D))['params']
    expected = dict(query=PROJECTION, key=PROJECTION, value=PROJECTION, out=OUT) | changes
    assert jax.tree.map(lambda leaf: leaf.shape, params) == expected
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('float32')}


@pytest.mark.parametrize('rotary', [False, True])
@pytest.mark.parametrize('arguments', [arguments for arguments, _ in KINDS])
def test_multi_head_attention_equals_parallel_lookups(arguments, rotary, random_variables):
    x, context = normal(2, 3, D), normal(2, 5, D, seed=1)
    angles = {}
    if rotary:
        angles = {'query': normal(3, HEAD // 2), 'key': normal(5, HEAD // 2, seed=1)}
    module = MultiHeadAttention(HEADS, **arguments)
    variables = random_variables(module, x)
    params = variables['params']

    @jax.jit
    def by_hand(x, context):
        def project(name, inputs, head):
            layer = params[name]
            y = inputs @ layer['kernel'][:, head] + layer.get('bias', np.zeros((HEADS, 1)))[head]
            if f'{name}_norm' in params:
                norm = params[f'{name}_norm']
                y = (y - y.mean(-1, keepdims=True)) / y.std(-1, keepdims=True)
                y = y * norm['scale'] + norm['bias']
            return rotate(y, angles[name]) if name in angles else y

        total, weights = params['out']['bias'], []
        for head in range(HEADS):
            found, found_weights = lookup(
                project('query', x, head),
                project('key', context, head),
                project('value', context, head),
                temperature=HEAD**0.5,
                return_weights=True,
            )
            total = total + found @ params['out']['kernel'][head]
            weights.append(found_weights)
        return total, jnp.stack(weights, axis=1)

    @jax.jit
    def apply(x, context):
        options = dict(angles=angles.get('query'), key_angles=angles.get('key'))
        return module.apply(variables, x, context, return_weights=True, **options)

    found, weights = apply(x, context)
    expected, expected_weights = by_hand(x, context)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-4)


def test_attention_without_context_is_self_attention(random_variables):
    x = normal(2, 3, D)
    module = MultiHeadAttention(HEADS)
    variables = random_variables(module, x)
    found, weights = module.apply(variables, x)
    np.testing.assert_array_equal(found, module.apply(variables, x, x)[0])
    assert weights is None


def test_attention_mask_may_differ_by_example_and_head(random_variables):
    x = normal(2, 3, D)
    module = MultiHeadAttention(HEADS)
    mask = (np.random.default_rng(0).random((2, HEADS, 3, 3)) < 0.6) | np.eye(3, dtype=bool)
    variables = jax.tree.map(lambda leaf: leaf / 10, random_variables(module, x))
    _, weights = module.apply(variables, x, mask=mask, return_weights=True)
    np.testing.assert_array_equal(weights > 0, mask)


def test_rotary_attention_is_invariant_to_a_common_shift_of_positions(random_variables):
    x = normal(2, 3, D)
    module = MultiHeadAttention(HEADS)
    variables = jax.tree.map(lambda leaf: leaf / 3, random_variables(module, x))

    @jax.jit
    def attend(positions, key_positions):
        angles, key_angles = (rotary_angles(p, HEAD) for p in (positions, key_positions))
        return module.apply(variables, x, angles=angles, key_angles=key_angles)[0]

    here, there = np.arange(3), np.arange(3) + 70
    found = attend(here, here)
    np.testing.assert_allclose(attend(there, there), found, atol=1e-4)
    assert np.abs(attend(here, there) - found).max() > 1e-2
    still = module.apply(variables, x)[0]
    np.testing.assert_allclose(attend(0 * here, 0 * here), still, atol=1e-5)
    assert np.abs(found - still).max() > 1e-2


def test_attention_with_a_cache_equals_attention_at_once(random_variables):
    x = normal(2, 3, D)
    module = MultiHeadAttention(HEADS)
    variables = random_variables(module, x)
    together, _ = module.apply(variables, x, angles=rotary_angles(np.arange(3), HEAD))
    for position in range(3):
        alone, _ = module.apply(
            variables,
            x[:, position : position + 1],
            x,
            angles=rotary_angles(np.array([position]), HEAD),
            key_angles=rotary_angles(np.arange(3), HEAD),
        )
        np.testing.assert_allclose(alone[:, 0], together[:, position], atol=1e-4)


@pytest.mark.parametrize('name', ['angles', 'key_angles'])
def test_attention_refuses_angles_of_queries_alone(name):
    x, angles = np.zeros((1, 2, D)), np.zeros((2, HEAD // 2))
    with pytest.raises(ValueError, match='rotary positions need both'):
        MultiHeadAttention(HEADS).apply({}, x, x, **{name: angles})


def test_attention_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match='num_heads 3 does not divide the width 8'):
        jax.eval_shape(MultiHeadAttention(3).init, jax.random.key(0), np.zeros((1, 2, 8)))
