"""A function in fewer kinds of JAX's primitives, for converters that do not know, or not run, them all."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal


def in_fewer_primitives(function: Callable[..., Any], *shapes: Any) -> Callable[..., list[Any]]:
    """The same function of arrays with calls written out, loops unrolled, and what JAX added last left out.

    Args:
      function: of arrays; it is traced here and now.
      shapes: of its arguments, as `jax.ShapeDtypeStruct`s.

    Returns:
      Arrays -> the leaves of the result.
    """
    with jax.disable_jit():
        return functools.partial(_run, jax.make_jaxpr(function)(*shapes))


def _run(closed: ClosedJaxpr, *arguments: Any) -> list[Any]:
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(variable):
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        compute = _REWRITTEN.get(equation.primitive.name, equation.primitive.bind)
        results = compute(*map(read, equation.invars), **equation.params)
        if not isinstance(results, (list, tuple)):
            results = [results]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _call(*values, call_jaxpr, **_) -> list[Any]:
    return _run(call_jaxpr, *values)


def _stack(*arrays, axis: int) -> jax.Array:
    return lax.concatenate([lax.expand_dims(x, [axis]) for x in arrays], axis)


def _unstack(x, *, axis: int) -> list[jax.Array]:
    return [lax.index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis])]


_REWRITTEN = {'custom_jvp_call': _call, 'stack': _stack, 'unstack': _unstack}
