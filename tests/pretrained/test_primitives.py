import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.pretrained.primitives import in_fewer_primitives

X = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32) - 3  # below zero

FUNCTIONS = {
    'calls': lambda x: nn.silu(nn.relu(x + 3)),
    'loop': lambda x: jax.lax.scan(lambda c, w: (c * w, c.sum()), x, jnp.arange(1.0, 4)),
    'stack': lambda x: jnp.stack([x, 2 * x], axis=-2),
    'unstack': lambda x: jnp.unstack(x, axis=2)[1:3],
}


@pytest.mark.parametrize('function', FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_the_function_is_the_same_in_known_primitives(function):
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    rewritten = in_fewer_primitives(function, shape)
    for found, expected in zip(rewritten(X), jax.tree.leaves(function(X)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    used = {equation.primitive.name for equation in jax.make_jaxpr(rewritten)(X).eqns}
    assert not used & {'jit', 'custom_jvp_call', 'scan', 'stack', 'unstack'}
