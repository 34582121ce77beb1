"""FLOPs of any function or model, counted in its traced computation."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax.extend.core import jaxprs_in_params

from vitjax.models.contract import example_inputs


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """FLOPs of the matrix products and convolutions of a function; a multiply-add is 2.

    Nothing is computed or compiled: the arguments may be `jax.ShapeDtypeStruct`. The body of a scan counts as
    often as it runs, that of a loop of unknown length once. Element-wise operations (norms, softmax,
    activations) do not count, as in the figures of papers.
    """
    return count_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def model_cost(model: nn.Module) -> tuple[int, int]:
    """Number of parameters, and FLOPs of the forward pass on one example of `example_inputs`."""
    inputs = example_inputs(model)
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))
    return parameters, count_flops(model.apply, variables, *inputs)


def count_jaxpr(jaxpr: Any) -> int:
    """FLOPs of a jaxpr, counted as in `count_flops`."""
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
            depth = math.prod(kernel) // kernel[out_axis]  # products in the sum of an output value
            # The gradient of a strided convolution has zeros between the values, which do not count.
            depth /= math.prod(equation.params['lhs_dilation'])
            total += round(2 * depth * math.prod(equation.outvars[0].aval.shape))
    return total
