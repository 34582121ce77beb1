import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers.pooling import AttentionPooling

D, M = 8, 12


@pytest.fixture(scope='module')
def pooling():
    module = AttentionPooling(num_heads=2, mlp_dim=M)
    tokens = jax.random.normal(jax.random.key(0), (3, 5, D))
    variables = module.init(jax.random.key(1), tokens)
    return lambda x: module.apply(variables, x), tokens, variables


def test_one_vector_an_example(pooling):
    apply, tokens, _ = pooling
    assert apply(tokens).shape == (3, D)
    np.testing.assert_allclose(apply(tokens)[1:2], apply(tokens[1:2]), atol=1e-6)


@pytest.mark.parametrize('order', [[4, 2, 0, 1, 3], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]])
def test_neither_order_nor_repetition_of_the_tokens_matters(pooling, order):
    apply, tokens, _ = pooling
    np.testing.assert_allclose(apply(tokens[:, jnp.array(order)]), apply(tokens), atol=1e-5)


def test_all_tokens_count(pooling):
    apply, tokens, _ = pooling
    gradient = jax.grad(lambda x: apply(x).var())(tokens)
    assert (jnp.abs(gradient).max(axis=-1) > 0).all()


def test_parameters(pooling):
    *_, variables = pooling
    attention = 4 * D * D + 4 * D
    mlp = 2 * D * M + M + D
    count = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    assert count == D + attention + 2 * D + mlp


def test_computes_in_its_dtype_with_float32_parameters(pooling):
    apply, tokens, variables = pooling
    module = AttentionPooling(num_heads=2, mlp_dim=M, dtype=jnp.bfloat16)
    pooled, own = module.init_with_output(jax.random.key(1), tokens)
    assert pooled.dtype == jnp.bfloat16
    jax.tree.map(np.testing.assert_array_equal, own, variables)
    np.testing.assert_allclose(pooled.astype(jnp.float32), apply(tokens), atol=0.1)
