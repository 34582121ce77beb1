import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.layers.attention import MultiHeadAttention
from vitjax.layers.block import BlockConfig
from vitjax.layers.mlp import MLP
from vitjax.layers.pooling import AttentionPooling

D, M = 8, 12


@pytest.fixture(scope='module')
def pooling(random_variables):
    module = AttentionPooling(BlockConfig(num_heads=2, mlp_dim=M))
    tokens = np.random.default_rng(1).normal(size=(3, 5, D)).astype(np.float32)
    variables = jax.tree.map(lambda leaf: leaf / 4, random_variables(module, tokens))
    return jax.jit(lambda x: module.apply(variables, x)), tokens, variables


def test_attention_pooling_shape(pooling):
    apply, tokens, _ = pooling
    assert apply(tokens).shape == (3, D)
    np.testing.assert_allclose(apply(tokens)[1:2], apply(tokens[1:2]), atol=1e-5)


@pytest.mark.parametrize('order', [[4, 2, 0, 1, 3], [0, 1, 2, 3, 4] * 2])
def test_attention_pooling_is_invariant_to_order_and_repetition(pooling, order):
    apply, tokens, _ = pooling
    np.testing.assert_allclose(apply(tokens[:, order]), apply(tokens), atol=1e-5)


def test_attention_pooling_depends_on_all_tokens(pooling):
    apply, tokens, _ = pooling
    gradient = jax.grad(lambda x: apply(x).var())(tokens)
    assert np.abs(gradient).max(axis=-1).all()


def test_attention_pooling_equals_its_formula(pooling):
    apply, tokens, variables = pooling
    params = dict(variables['params'])
    probe = params.pop('probe_token').repeat(3, 0)
    x, _ = MultiHeadAttention(2).apply({'params': params.pop('attention')}, probe, tokens)
    y = nn.LayerNorm(1e-6).apply({'params': params.pop('mlp_norm')}, x)
    expected = x + MLP(M).apply({'params': params.pop('mlp')}, y)
    np.testing.assert_allclose(apply(tokens), expected[:, 0], atol=1e-5)
    assert not params


def test_attention_pooling_computes_in_its_dtype_with_float32_parameters(pooling):
    apply, tokens, variables = pooling
    module = AttentionPooling(BlockConfig(num_heads=2, mlp_dim=M, dtype=jnp.bfloat16))
    own = jax.eval_shape(module.init, jax.random.key(0), tokens)
    assert {leaf.dtype for leaf in jax.tree.leaves(own)} == {np.dtype('float32')}
    pooled = jax.jit(module.apply)(variables, tokens)
    assert pooled.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(pooled, np.float32), apply(tokens), atol=0.1)


@pytest.mark.parametrize('kernel', ['xla', 'cpu', 'cudnn', 'splash'])
def test_attention_pooling_replaces_kernels_for_many_queries(kernel, pooling):
    apply, tokens, variables = pooling
    module = AttentionPooling(BlockConfig(num_heads=2, mlp_dim=M, attention_kernel=kernel))
    found = jax.jit(lambda x: module.apply(variables, x))
    np.testing.assert_allclose(found(tokens), apply(tokens), atol=1e-5)

    def traced(kernel):
        module = AttentionPooling(BlockConfig(num_heads=2, mlp_dim=M, attention_kernel=kernel))
        return str(jax.make_jaxpr(lambda x: module.apply(variables, x))(tokens))

    # 'cudnn' and 'splash' are for many queries; the others are used as they are.
    assert traced(kernel) == traced('auto' if kernel in ('cudnn', 'splash') else kernel)
    assert traced('xla') != traced('cpu')
