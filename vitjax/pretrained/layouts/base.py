"""What every layout of foreign weights has in common: the checkpoint it reads, and the parts it returns."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from vitjax.checkpoints import array_shapes
from vitjax.data.text import TextPreprocess
from vitjax.errors import MissingMetadataError, UserError
from vitjax.layers.patches import as_pair, grid_size
from vitjax.models.contract import call_options, example_inputs
from vitjax.models.registry import create_model
from vitjax.pretrained.files import Tensors, inside, read_json_beside, read_tensors
from vitjax.pretrained.model import Pretrained

# Arguments that may differ from the file's: `vitjax.pretrained.resize` adapts the weights to them.
SIZES = {'image_size', 'patch_size', 'in_channels', 'num_classes'}

_SIDECARS = (
    *('config.json', 'preprocessor_config.json'),
    *('generation_config.json', 'tokenizer_config.json'),
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Foreign weights as they lie.

    Attributes:
      place: file or folder, for errors.
      tensors: name -> array.
      sidecars: name of a JSON file beside the weights -> the object in it.
    """

    place: str
    tensors: Tensors
    sidecars: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """What the config.json beside it says; {} without one."""
        return self.sidecars.get('config.json', {})

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """The shape of a tensor; UserError if there is none, or one with another number of axes."""
        if name not in self.tensors:
            raise UserError(f'{self.place} has no tensor {name}')
        shape = self.tensors[name].shape
        if len(shape) != axes:
            raise UserError(f'{self.place}: {name} is {shape}, which are not {axes} axes')
        return shape


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a layout reads: a model that is not built yet, and what surrounds it.

    Attributes:
      name: of the model, as `create_model` takes it.
      arguments: of its constructor, those that differ from the defaults.
      params: '/'-joined path -> array, float32.
      preprocess: mean, std (of pixels in [0, 1]), crop, interpolation: see `Preprocess`; of a
        translation model, all of it.
      labels: names of the classes, None if unknown.
      guessed: names of what is in `preprocess` although nothing tells it.
      resampling: how this family resamples positions, see `vitjax.layers.resampling`.
      state: other collections than the parameters, as `batch_stats`.
    """

    name: str
    arguments: dict[str, Any]
    params: dict[str, np.ndarray]
    preprocess: dict[str, Any] | TextPreprocess
    labels: tuple[str, ...] | None = None
    guessed: tuple[str, ...] = ()
    resampling: str = 'cubic_antialias'
    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A layout of foreign weights, see `vitjax.protocols.Layout`.

    Attributes:
      name: in `Pretrained.info` and in messages.
      recognises: whether the tensors of a checkpoint, and its config.json if need be, are of this layout.
      read: checkpoint and overrides of `load` -> `Parts`.
      weights: name of the file of weights in a folder of this layout.
      writes: format of `vitjax.save` -> class of the models that this layout writes for it.
      write: model -> tensors, and JSON files beside them; UserError for a model that it cannot hold.
      to_equivalent: an equivalent model that the layout can hold, see `vitjax.pretrained.equivalents`.
    """

    name: str
    recognises: Callable[[Checkpoint], bool]
    read: Callable[[Checkpoint, dict[str, Any]], Parts]
    weights: str = 'model.safetensors'
    writes: Mapping[str, type[nn.Module]] = dataclasses.field(default_factory=dict)
    write: Callable[[Pretrained], tuple[Tensors, dict[str, Any]]] | None = None
    to_equivalent: Callable[[Pretrained], Pretrained] | None = None


def open_checkpoint(path: Path) -> Checkpoint:
    """Reads the file, and the JSON files beside it that layouts know; UserError as `read_tensors`."""
    sidecars = {
        name: read_json_beside(inside(path.parent, name))
        for name in _SIDECARS
        if (path.parent / name).exists()
    }
    return Checkpoint(str(path), read_tensors(path), sidecars)


def resolve_model_args(
    checkpoint: Checkpoint,
    overrides: Mapping[str, Any],
    *,
    tensors: Mapping[str, Any],
    config: Mapping[str, Any],
    known: Mapping[str, Any],
    needed: Iterable[str] = (),
) -> dict[str, Any]:
    """One value for each constructor argument that something tells.

    Args:
      overrides: what the caller of `load` says; it goes before all but the tensors. Those in `SIZES`
        count only where nothing else tells: the weights are adapted to them after reading.
      tensors: what follows from names and shapes.
      config: what the files beside say.
      known: what holds for the layout unless something else is said.
      needed: arguments that must be known.

    Raises:
      UserError: the config or the caller contradicts the tensors.
      MissingMetadataError: what is needed is missing.
    """
    try:
        tensors, config, known, overrides = (
            {name: as_argument(name, value) for name, value in values.items()}
            for values in (tensors, config, known, overrides)
        )
    except UserError as error:
        raise UserError(f'{checkpoint.place}: {error}') from error
    facts = known | config | tensors
    said = {name: value for name, value in overrides.items() if name not in SIZES & facts.keys()}
    for whose, values in (('its config', config), ('the call', said)):
        for name in sorted(values.keys() & tensors.keys()):
            if values[name] != tensors[name]:
                raise UserError(
                    f'{checkpoint.place}: {whose} says {name}={values[name]!r}, '
                    f'the tensors say {tensors[name]!r}'
                )
    facts |= said
    if missing := [name for name in needed if facts.get(name) is None]:
        raise MissingMetadataError(
            f'{checkpoint.place} does not tell {" and ".join(missing)}: '
            f'say {", ".join(f"{name}=..." for name in missing)} when loading '
            f'(vitjax convert: {" ".join(f"--set {name}=..." for name in missing)})'
        )
    return facts


def parameter_shapes(name: str, arguments: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """'/'-joined path -> shape of each parameter of a model, without making them."""
    return array_shapes(variable_shapes(create_model(name, **arguments))['params'])


def variable_shapes(model: nn.Module, inputs: Sequence[Any] | None = None) -> dict[str, Any]:
    """What `model.init` would make, as `jax.ShapeDtypeStruct`s; inputs None: the model's own."""
    init = functools.partial(model.init, **call_options(model, False))
    key = jax.eval_shape(jax.random.key, 0)  # a key itself would have to be compiled
    return jax.eval_shape(init, key, *(inputs or example_inputs(model)))


def guess_image(
    patches: int, patch_size: tuple[int, int], overrides: Mapping[str, Any]
) -> dict[str, tuple[int, int]]:
    """{'image_size': ...} of the image that the caller names, if it has so many patches, or else of a square.

    It is {} if they make no square either.
    """
    try:
        if math.prod(grid_size(overrides.get('image_size'), patch_size)) == patches:
            return {'image_size': as_pair(overrides['image_size'])}
    except (TypeError, ValueError):  # no size, or one that is to be adapted to, or refused, later
        pass
    side = math.isqrt(patches)
    if not patches or side * side != patches:
        return {}
    return {'image_size': (side * patch_size[0], side * patch_size[1])}


def check_grid(checkpoint: Checkpoint, arguments: Mapping[str, Any], patches: int) -> None:
    """UserError unless the image has as many patches as there are positions in the file."""
    try:
        rows, columns = grid_size(arguments['image_size'], arguments['patch_size'])
    except ValueError as error:
        raise UserError(f'{checkpoint.place}: {error}') from error
    if rows * columns != patches:
        raise UserError(
            f'{checkpoint.place} has positions of {patches} patches, but an image of '
            f'{arguments["image_size"]} has {rows} x {columns}'
        )


def refuse(reasons: Mapping[str, bool]) -> None:
    """UserError with the first reason that holds why a layout does not hold a model."""
    for reason, holds in reasons.items():
        if holds:
            raise UserError(reason)


def as_argument(name: str, value: Any) -> Any:
    """Sizes as pairs and lists as tuples, so that they can be compared; UserError if it is no size."""
    try:
        if name in ('image_size', 'patch_size'):
            return as_pair(value)
    except (TypeError, ValueError) as error:
        raise UserError(f'{name}: {error}') from error
    return tuple(value) if isinstance(value, list) else value
