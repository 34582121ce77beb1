"""FLOPs counted from the traced computation, so that they hold for every model."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax.extend.core import jaxprs_in_params

from vitjax.models.contract import example_inputs


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """FLOPs of the matrix products and convolutions that a function does; 2 a multiply-add.

    Nothing is computed or compiled: the arguments may be `jax.ShapeDtypeStruct`. Scans count as
    often as they run, loops of unknown length once. Element-wise work (norms, softmax, activations) is
    left out, as in the papers' figures.
    """
    return count_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def model_cost(model: nn.Module) -> tuple[int, int]:
    """Parameters, and FLOPs of the forward pass over one example.

    What an example is, `example_inputs` says.
    """
    inputs = example_inputs(model)
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))
    return parameters, count_flops(model.apply, variables, *inputs)


def count_jaxpr(jaxpr: Any) -> int:
    """FLOPs as `count_flops` counts them, of a function that is traced already."""
    total = 0
    for equation in jaxpr.eqns:
        times = equation.params['length'] if equation.primitive.name == 'scan' else 1
        for inner in jaxprs_in_params(equation.params):
            total += times * count_jaxpr(inner)
        if equation.primitive.name == 'dot_general':
            (contracted, _), _ = equation.params['dimension_numbers']
            shape = equation.invars[0].aval.shape
            depth = math.prod(shape[axis] for axis in contracted)
            total += 2 * depth * math.prod(equation.outvars[0].aval.shape)
        elif equation.primitive.name == 'conv_general_dilated':
            kernel = equation.invars[1].aval.shape
            out_axis = equation.params['dimension_numbers'].rhs_spec[0]
            depth = math.prod(kernel) // kernel[out_axis]  # products an output value sums
            # The gradient of a stride has zeros between the values, which are no work.
            depth /= math.prod(equation.params['lhs_dilation'])
            total += round(2 * depth * math.prod(equation.outvars[0].aval.shape))
    return total
