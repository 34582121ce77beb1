import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.layers.attention import MultiHeadAttention, lookup

# Keys that are orthogonal, and what is stored under them.
KEYS = jnp.eye(4)[:3]
VALUES = jnp.array([[1.0, -2.0], [3.0, 5.0], [-7.0, 9.0]])


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize('index', range(3))
def test_a_cold_lookup_is_a_table_lookup(index):
    found = lookup(KEYS[index : index + 1], KEYS, VALUES, temperature=1e-3)
    np.testing.assert_array_equal(found[0], VALUES[index])


@pytest.mark.parametrize('temperature', [1e-3, 1.0, 50.0])
def test_a_key_that_is_not_there_finds_the_mean(temperature):
    found = lookup(jnp.eye(4)[3:], KEYS, VALUES, temperature=temperature)
    np.testing.assert_allclose(found[0], VALUES.mean(axis=0), rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.sampled_from([(), (2,), (2, 3)]),
    lengths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    temperature=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)
def test_equals_the_formula_in_float64(batch, lengths, widths, temperature, seed):
    (targets, sources), (width, stored) = lengths, widths
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(*batch, targets, width))
    key = rng.normal(size=(*batch, sources, width))
    value = rng.normal(size=(*batch, sources, stored))
    mask = rng.random((*batch, targets, sources)) < 0.7
    mask[..., 0] = True

    weights = np.exp(query @ key.swapaxes(-1, -2) / temperature) * mask
    weights /= weights.sum(-1, keepdims=True)
    arrays = [jnp.asarray(array, jnp.float32) for array in (query, key, value)]
    found, found_weights = lookup(
        *arrays, temperature=temperature, mask=jnp.asarray(mask), return_weights=True
    )

    np.testing.assert_allclose(found_weights, weights, atol=1e-5)
    np.testing.assert_allclose(found, weights @ value, atol=1e-4)
    np.testing.assert_allclose(found_weights.sum(-1), 1, atol=1e-6)


def test_a_hidden_key_is_as_if_it_were_not_there():
    query, key, value = normal(0, 2, 3, 4), normal(1, 2, 5, 4), normal(2, 2, 5, 6)
    mask = jnp.array([True, False, True, True, False])

    def masked(key, value):
        return lookup(query, key, value, mask=mask)

    np.testing.assert_allclose(
        masked(key, value), lookup(query, key[:, mask], value[:, mask]), atol=1e-6
    )
    gradients = jax.grad(lambda *args: masked(*args).sum(), (0, 1))(key, value)
    for gradient in gradients:
        assert not gradient[:, ~mask].any()
        assert gradient[:, mask].any()


def test_a_query_that_sees_no_key_gets_finite_values_and_gradients():
    mask = jnp.array([[True, True, True], [False, False, False]])

    def found(query):
        return lookup(query, KEYS, VALUES, mask=mask)

    assert jnp.isfinite(found(KEYS[:2])).all()
    assert jnp.isfinite(jax.grad(lambda query: found(query).sum())(KEYS[:2])).all()


def test_similarities_too_great_for_exp_are_no_trouble():
    np.testing.assert_array_equal(lookup(1e4 * KEYS, KEYS, VALUES), VALUES)


def test_the_order_of_the_keys_does_not_matter():
    query, key, value = normal(0, 3, 4), normal(1, 5, 4), normal(2, 5, 2)
    order = jnp.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(
        lookup(query, key[order], value[order]), lookup(query, key, value), atol=1e-6
    )


def test_weights_are_float32_under_bfloat16():
    arrays = normal(0, 3, 8), normal(1, 64, 8), normal(2, 64, 2)
    expected, expected_weights = lookup(*arrays, return_weights=True)
    found, weights = lookup(*(x.astype(jnp.bfloat16) for x in arrays), return_weights=True)

    assert (found.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, expected_weights, atol=0.02)
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=0.05)


D, HEADS = 8, 2
PROJECTION = {'kernel': (D, HEADS, D // HEADS), 'bias': (HEADS, D // HEADS)}
NORM = {'scale': (D // HEADS,), 'bias': (D // HEADS,)}
OUT = {'kernel': (HEADS, D // HEADS, D), 'bias': (D,)}


@pytest.mark.parametrize(
    ('arguments', 'changes'),
    [
        ({}, {}),
        ({'qk_norm': True}, {'query_norm': NORM, 'key_norm': NORM}),
        (
            {'qkv_bias': False},
            {name: {'kernel': PROJECTION['kernel']} for name in ('query', 'key', 'value')},
        ),
    ],
)
def test_parameters(arguments, changes):
    module = MultiHeadAttention(HEADS, dtype=jnp.bfloat16, **arguments)
    params = module.init(jax.random.key(0), normal(0, 1, 3, D))['params']
    expected = dict(query=PROJECTION, key=PROJECTION, value=PROJECTION, out=OUT) | changes
    assert jax.tree.map(jnp.shape, params) == expected
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype('float32')}


@pytest.mark.parametrize('arguments', [{}, {'qk_norm': True}, {'qkv_bias': False}])
def test_heads_are_lookups_side_by_side(arguments):
    x, context = normal(0, 2, 3, D), normal(1, 2, 5, D)
    module = MultiHeadAttention(HEADS, **arguments)
    variables = module.init(jax.random.key(0), x)
    found, weights = module.apply(variables, x, context, return_weights=True)

    params = variables['params']
    total = params['out']['bias']
    for head in range(HEADS):

        def project(name, inputs, head=head):
            bias = params[name]['bias'][head] if 'bias' in params[name] else 0
            return inputs @ params[name]['kernel'][:, head] + bias

        query, key = project('query', x), project('key', context)
        if 'qk_norm' in arguments:
            query, key = (
                (y - y.mean(-1, keepdims=True)) / y.std(-1, keepdims=True) for y in (query, key)
            )
        values, expected = lookup(
            query,
            key,
            project('value', context),
            temperature=(D // HEADS) ** 0.5,
            return_weights=True,
        )
        np.testing.assert_allclose(weights[:, head], expected, atol=1e-4)
        total = total + values @ params['out']['kernel'][head]
    np.testing.assert_allclose(found, total, atol=1e-4)


def test_without_context_it_attends_to_itself():
    x = normal(0, 2, 3, D)
    module = MultiHeadAttention(HEADS)
    variables = module.init(jax.random.key(0), x)
    found, weights = module.apply(variables, x)
    np.testing.assert_array_equal(found, module.apply(variables, x, x)[0])
    assert weights is None


def test_a_mask_may_differ_by_example_and_head():
    x = normal(0, 2, 3, D)
    module = MultiHeadAttention(HEADS)
    variables = module.init(jax.random.key(0), x)
    mask = jax.random.bernoulli(jax.random.key(1), 0.6, (2, HEADS, 3, 3)) | jnp.eye(3, dtype=bool)
    _, weights = module.apply(variables, x, mask=mask, return_weights=True)
    np.testing.assert_array_equal(weights > 0, mask)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match='num_heads 3 does not divide the width 8'):
        MultiHeadAttention(3).init(jax.random.key(0), jnp.zeros((1, 2, 8)))
