import math

import numpy as np
import pytest

from vitjax.layers.mlp import ACTIVATIONS, MLP

M = 12
X = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)

erf = np.vectorize(math.erf)
FORMULAS = {
    'gelu': lambda x: x * (1 + erf(x / 2**0.5)) / 2,
    'gelu_tanh': lambda x: x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
    'quick_gelu': lambda x: x / (1 + np.exp(-1.702 * x)),
    'silu': lambda x: x / (1 + np.exp(-x)),
    'relu': lambda x: np.maximum(x, 0),
}


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_activations_equal_their_formulas(name):
    x = np.linspace(-6, 6, 49, dtype=np.float32)
    np.testing.assert_allclose(ACTIVATIONS[name](x), FORMULAS[name](x), atol=1e-5)


@pytest.mark.parametrize('gated', [False, True])
def test_mlp_equals_the_formula(gated, random_variables):
    mlp = MLP(M, activation='silu', gated=gated)
    variables = random_variables(mlp, X)
    layers = variables['params']

    def dense(name, x):
        return x @ layers[name]['kernel'] + layers[name]['bias']

    hidden = dense('hidden', X)
    if gated:
        hidden = FORMULAS['silu'](dense('gate', X)) * hidden
    else:
        hidden = FORMULAS['silu'](hidden)
    np.testing.assert_allclose(mlp.apply(variables, X), dense('out', hidden), atol=1e-3)
    assert set(layers) == {'hidden', 'out'} | ({'gate'} if gated else set())
