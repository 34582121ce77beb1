"""How models are called and which example inputs they take, for models of vitjax and of other packages.

The contract itself is `vitjax.protocols.Model`.
"""

import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.errors import UserError
from vitjax.files import read_json, write_atomically
from vitjax.layers.patches import as_pair
from vitjax.protocols import HasExampleInputs


def call_options(model: nn.Module, train: bool, method: str = '__call__') -> dict[str, bool]:
    """The keyword `train` or Flax's `deterministic`, whichever a method of the model accepts."""
    accepted = inspect.signature(getattr(type(model), method)).parameters
    if 'train' in accepted:
        return {'train': train}
    return {'deterministic': not train} if 'deterministic' in accepted else {}


def apply(
    model: nn.Module,
    variables: Mapping[str, Any],
    *inputs: Any,
    train: bool,
    rngs: Mapping[str, jax.Array] | None = None,
    method: str = '__call__',
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """Calls `model.apply`; returns the outputs and, in training, the new state of mutable collections.

    Args:
      variables: 'params' and other collections. In training all but 'params' and 'frozen' are mutable,
        such as `batch_stats`.
      inputs, options: arguments of the method.
    """
    model_state = [name for name in variables if name not in ('params', 'frozen')]
    options = call_options(model, train, method) | options
    outputs, new_state = model.apply(
        variables,
        *inputs,
        rngs=None if rngs is None else dict(rngs),
        mutable=model_state if train else [],
        method=method,
        **options,
    )
    return outputs, dict(new_state)


def example_inputs(
    model: nn.Module, batch: Mapping[str, Any] | None = None
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes of the inputs with which a model is initialised, for a batch of one.

    The first of these that exists: the result of its method `example_inputs`; images of its `image_size` and
    `in_channels`; the arrays of the batch with the names of its arguments; the array 'image' of the batch.

    Args:
      batch: arrays or `jax.ShapeDtypeStruct`s, as the model takes them; None if there are no data.

    Raises:
      UserError: none of these exists.
    """
    if isinstance(model, HasExampleInputs):
        return tuple(map(_as_shape, model.example_inputs()))
    if hasattr(model, 'image_size') and hasattr(model, 'in_channels'):
        size = (1, *as_pair(model.image_size), model.in_channels)
        return (jax.ShapeDtypeStruct(size, jnp.float32),)
    batch = batch or {}
    parameters = list(inspect.signature(type(model).__call__).parameters.values())[1:]
    inputs = []
    for parameter in parameters:
        if parameter.name in batch:
            inputs.append(parameter.name)
        elif parameter.default is parameter.empty:
            break
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(inputs) < len(needed) and len(needed) == 1 and 'image' in batch:
        inputs = ['image']
    if len(inputs) < max(len(needed), 1):
        known = f' nor by its batches ({", ".join(batch)})' if batch else ''
        raise UserError(
            f'the inputs of {type(model).__name__} are not known by its image_size and in_channels{known}; '
            'give it a method example_inputs()'
        )
    return tuple(_as_shape(batch[name], one=True) for name in inputs)


def write_inputs(folder: Path, inputs: Iterable[jax.Array]) -> None:
    """Writes `inputs.json` into a run's folder: shapes and dtypes of the inputs of its model."""
    values = [{'shape': list(x.shape), 'dtype': jnp.dtype(x.dtype).name} for x in inputs]
    write_atomically(folder / 'inputs.json', json.dumps(values) + '\n')


def read_inputs(folder: Path, model: nn.Module) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The example inputs of a run's model: from the model itself, else from `inputs.json`."""
    path = folder / 'inputs.json'
    try:
        return example_inputs(model)
    except UserError:
        if not path.is_file():
            raise
    try:
        return tuple(
            jax.ShapeDtypeStruct(tuple(x['shape']), jnp.dtype(x['dtype'])) for x in read_json(path)
        )
    except (KeyError, TypeError) as error:
        raise UserError(f'{path} is damaged: {error!r}') from error


def submodules(model: nn.Module, *inputs: Any) -> dict[str, nn.Module]:
    """All modules that a call of the model calls: '/'-joined path ('' for the model) -> module."""
    found: dict[str, nn.Module] = {}

    def record(method, arguments, options, context):
        if context.module.scope is not None:
            found.setdefault('/'.join(context.module.path), context.module)
        return method(*arguments, **options)

    options: dict[str, Any] = call_options(model, train=False)
    with nn.intercept_methods(record):
        jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, **options))
    return found


def _as_shape(array: Any, one: bool = False) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array; with `one`, of one example of a batch."""
    shape = (1, *array.shape[1:]) if one else array.shape
    return jax.ShapeDtypeStruct(shape, array.dtype)
