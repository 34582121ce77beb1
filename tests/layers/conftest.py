import jax
import numpy as np
import pytest


@pytest.fixture(scope='session')
def random_variables():
    """Variables of a module for given inputs, every one of them random; nothing is compiled."""

    def variables(module, *inputs):
        shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
        rng = np.random.default_rng(0)
        return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)

    return variables
