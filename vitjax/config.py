"""What a run is told: every key with its type, its range and its meaning; reading and overriding.

A recipe is a Python file with `get_config(arg=None)` that returns `base_config()` with some values
changed. A config is data: an `ml_collections.ConfigDict` of plain values that prints and stores as JSON.

Four parts are chosen by name (`task`, `model`, `optimizer`, `schedule`); their further keys are
the arguments of what is named, with its defaults, so that `config.model.depth` is known when `config.model.name`
is a Vision Transformer, and refused when it is something that has no depth.
"""

import ast
import dataclasses
import importlib.util
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import ml_collections

from vitjax.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, both included; stands in the annotation of a key."""

    low: float = float('-inf')
    high: float = float('inf')

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high

    def __str__(self):
        if self.high == float('inf'):
            return f'at least {self.low}'
        return f'between {self.low} and {self.high}'


Count = Annotated[int, Range(low=1)]
NotNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(0, 1)]
# Steps as a number, or a text with a unit: '500 steps', '2 epochs', '10000 examples'.
Duration = Annotated[int, Range(low=0)] | str


@dataclasses.dataclass(frozen=True)
class Task:
    name: str = 'classification'  # what is learned; see vitjax/tasks


@dataclasses.dataclass(frozen=True)
class Model:
    name: str = 'vit_ti16'  # `vitjax models` lists the names; the constructor's arguments follow


@dataclasses.dataclass(frozen=True)
class Data:
    name: str = 'digits'  # digits, idx, cifar, folder, or tfds:NAME; see vitjax/data/sources.py
    path: str | None = None  # folder of the data; for tfds its data_dir
    train_split: str = 'train'  # parts as TFDS writes them: 'train[:90%]', 'train[10:20]+test'
    eval_split: str = 'test'
    mean: tuple[float, ...] = (0.5,)  # of pixels in [0, 1], one for all channels or one each
    std: tuple[float, ...] = (0.5,)
    crop: Annotated[float, Range(0.01, 1)] = (
        1.0  # evaluation: part of the shorter side kept by the central crop
    )
    skip_corrupt: bool = False  # True: unreadable examples are left out, counted and reported
    threads: Count = 16  # that read and decode
    workers: Annotated[int, Range(low=0)] = 0  # processes that do so instead, if more than 0


@dataclasses.dataclass(frozen=True)
class Augment:
    crop: tuple[float, float] | None = (
        None  # random-resized crop: least and greatest share of the area
    )
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # and least and greatest width / height
    flip: bool = False  # left to right, for half of the examples
    shift: Annotated[int, Range(low=0)] = 0  # at most so many pixels each way, zeros moving in
    rotate: NotNegative = 0.0  # at most so many degrees each way


@dataclasses.dataclass(frozen=True)
class Optimizer:
    name: str = 'adamw'  # sgd, adam, adamw, lamb, lion, adafactor, muon; its own arguments follow
    learning_rate: NotNegative = 1e-3  # the peak that the schedule scales
    weight_decay: NotNegative = 0.0  # decoupled: times the learning rate, as in AdamW
    no_decay: tuple[str, ...] = (
        'bias',
        'scale',
        'token',
        'positions',
    )  # patterns of parameter names
    frozen: tuple[str, ...] = ()  # patterns of parameter names that stay as they are
    clip_norm: NotNegative | None = None  # greatest global norm of the gradient
    accumulate: Count = 1  # micro-batches a step; batch_size is what all of them hold
    ema: Fraction | None = (
        None  # decay a step of the averaged parameters, which are then the ones evaluated
    )
    nonfinite: Literal['stop', 'skip'] = 'stop'  # on a loss or gradient that is not finite


@dataclasses.dataclass(frozen=True)
class Schedule:
    name: str = 'cosine'  # constant, cosine, linear, rsqrt; its own arguments follow
    warmup: Duration = 0  # linear from 0
    cooldown: Duration = 0  # linear to 0 at the end


@dataclasses.dataclass(frozen=True)
class Eval:
    every: Duration | None = None  # None: at the end only
    batch_size: Count | None = None  # None: as in training


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: Duration | None = '1 epoch'  # None: at the end only
    keep: Count = 2  # the newest so many
    best: str | None = None  # a metric of the evaluation, as 'accuracy' or '-loss' (less is better)
    keep_best: Count = 1  # the best so many, if `best` is given


@dataclasses.dataclass(frozen=True)
class Log:
    every: Duration = 50
    tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class Precision:
    compute: Literal['float32', 'bfloat16'] = (
        'float32'  # parameters, norms, softmax and loss stay float32
    )
    matmul: Literal['default', 'high', 'highest'] = 'default'  # of float32 matrix products


@dataclasses.dataclass(frozen=True)
class Mesh:
    data: Annotated[int, Range(low=-1)] = -1  # copies of the model; -1: whatever devices are left
    fsdp: Count = 1  # parts that parameters and optimizer state are cut into, each with its share of the batch
    tensor: Count = 1  # parts that heads and MLPs are cut into


@dataclasses.dataclass(frozen=True)
class Config:
    """All keys of a config, in the order in which a recipe gives them."""

    seed: int = 0  # with step and example it settles everything random
    task: Task = Task()
    model: Model = Model()
    data: Data = Data()
    batch_size: Count = 128  # examples a step, over all devices and hosts
    steps: Count | None = None  # how long to train: one of these three
    epochs: Annotated[float, Range(low=1e-6)] | None = None
    examples: Count | None = None
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    precision: Precision = Precision()
    mesh: Mesh = Mesh()


def base_config() -> ml_collections.ConfigDict:
    """Every key with its default; a recipe changes some and returns it."""
    config = ml_collections.ConfigDict(dataclasses.asdict(Config()), type_safe=False)
    config.lock()
    for part in NAMED_PARTS:
        config[part].unlock()
    return config


def read_config(spec: str, overrides: Mapping[str, str] | None = None) -> ml_collections.ConfigDict:
    """Reads a recipe `FILE` or `FILE:ARG`, applies overrides and checks every key.

    Args:
      spec: path of a Python file with `get_config(arg=None)`, or of a run's `config.json`.
      overrides: dotted key -> text, as the command line gives them: `{'model.depth': '6'}`.

    Returns:
      A complete config. Nothing was built or compiled.

    Raises:
      UserError: no such file, unknown key (with the nearest one), wrong type, value out of range.
    """
    path, _, argument = spec.partition(':')
    if not Path(path).is_file():
        raise UserError(f'no config file {path!r}')
    if path.endswith('.json'):
        config = _from_json(path)
    else:
        config = _run_recipe(path, argument or None)
    return complete(config, overrides or {})


def complete(
    config: ml_collections.ConfigDict, overrides: Mapping[str, str] | None = None
) -> ml_collections.ConfigDict:
    """Applies overrides (names first), adds the arguments of what is named, checks every value.

    Returns a new ConfigDict; raises UserError as `read_config` does.
    """
    config = ml_collections.ConfigDict(config.to_dict(), type_safe=False)
    overrides = dict(overrides or {})
    # A name decides which other keys its part has, so names come before the rest.
    for part in NAMED_PARTS:
        key = f'{part}.name'
        if key in overrides:
            if config[part].name != overrides[key]:
                # Arguments set for another name would not fit this one.
                known = arguments(part, overrides[key])
                config[part] = {k: v for k, v in config[part].items() if k in known}
            config[part].name = overrides.pop(key)
    schema = {
        field.name: arguments(field.name, config[field.name].get('name'))
        if dataclasses.is_dataclass(field.type)
        else (field.type, field.default)
        for field in dataclasses.fields(Config)
    }
    for key, text in overrides.items():
        _override(config, schema, key, text)
    for key, entry in schema.items():
        if isinstance(entry, tuple):
            config[key] = _checked(f'config.{key}', entry[0], config.get(key, entry[1]))
            continue
        for name in config[key]:
            if name not in entry:
                raise unknown(f'key of config.{key}', name, entry)
        config[key] = {
            name: _checked(f'config.{key}.{name}', kind, config[key].get(name, default))
            for name, (kind, default) in entry.items()
        }
    lengths = [key for key in ('steps', 'epochs', 'examples') if config[key] is not None]
    for key in lengths:
        # A length on the command line takes the place of the recipe's, whatever its unit.
        if len(lengths) > 1 and key not in overrides:
            config[key] = None
    if sum(config[key] is not None for key in ('steps', 'epochs', 'examples')) != 1:
        raise UserError('give exactly one of config.steps, config.epochs and config.examples')
    config.lock()
    return config


NAMED_PARTS = ('task', 'model', 'optimizer', 'schedule')


def choices(part: str) -> Mapping[str, Callable[..., Any]]:
    """What can stand as the name of a part: name -> the callable that is built with the other keys."""
    # Imported when asked for: a recipe is read without importing the models.
    if part == 'model':
        from vitjax.models.registry import MODELS as found
    elif part == 'task':
        from vitjax.tasks import TASKS as found
    elif part == 'optimizer':
        from vitjax.training.optimizers import OPTIMIZERS as found
    else:
        from vitjax.training.schedules import SCHEDULES as found
    return found


def arguments(part: str, name: str | None = None) -> dict[str, tuple[Any, Any]]:
    """Keys of a part: name -> (type, default), those of what is named after the common ones."""
    kind = typing.get_type_hints(Config)[part]
    hints = typing.get_type_hints(kind, include_extras=True)
    keys = {field.name: (hints[field.name], field.default) for field in dataclasses.fields(kind)}
    if part in NAMED_PARTS:
        known = choices(part)
        if name not in known:
            raise unknown(part, str(name), known)
        keys |= {k: v for k, v in signature(known[name]).items() if k not in keys}
    return keys


def signature(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Keyword arguments that a config may set: those with a default and an annotation of plain values."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        if parameter.default is parameter.empty or name in ('parent', 'name') or kind is Any:
            continue
        found[name] = (kind, parameter.default)
    return found


def in_steps(
    duration: int | str | None, *, batch_size: int, epoch: int, key: str = 'duration'
) -> int | None:
    """A duration in steps; `epoch` is the number of examples in one. None stays None.

    >>> in_steps('2 epochs', batch_size=100, epoch=1000)
    20
    """
    if duration is None or isinstance(duration, int):
        return duration
    number, _, unit = duration.strip().partition(' ')
    examples = {'steps': batch_size, 'epochs': epoch, 'examples': 1}.get(
        unit.strip().rstrip('s') + 's'
    )
    try:
        count = float(number)
    except ValueError:
        count = -1
    if examples is None or not 0 <= count < float('inf'):
        raise UserError(
            f"{key}: {duration!r} is no duration; write 500, '500 steps', '2 epochs' or '10000 examples'"
        )
    steps = count * examples / batch_size
    return max(round(steps), 1) if count else 0


def total_steps(config: ml_collections.ConfigDict, epoch: int) -> int:
    """How many steps the run takes; `epoch` is the number of examples in one."""
    if config.steps is not None:
        return config.steps
    unit = 'epochs' if config.epochs is not None else 'examples'
    return in_steps(f'{config[unit]} {unit}', batch_size=config.batch_size, epoch=epoch)


def _run_recipe(path: str, argument: str | None) -> ml_collections.ConfigDict:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None:
        raise UserError(f'{path}: a config is a Python file or a config.json')
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument)
    except (AttributeError, KeyError, SyntaxError, TypeError) as error:
        # ml_collections names the nearest key in its message, over several lines.
        raise UserError(f'{path}: {" ".join(str(error).split())}') from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f'{path}: get_config() returned {type(config).__name__}, not a ConfigDict')
    return config


def _from_json(path: str) -> ml_collections.ConfigDict:
    try:
        values = json.loads(Path(path).read_text())
        return ml_collections.ConfigDict(values, type_safe=False)
    except (ValueError, TypeError) as error:
        raise UserError(f'{path}: not a config: {error}') from error


def _override(config, schema: Mapping[str, Any], key: str, text: str) -> None:
    part, _, name = key.partition('.')
    if part not in schema:
        raise unknown('config key', part, schema)
    entry = schema[part]
    if isinstance(entry, tuple):
        if name:
            raise UserError(f'config.{part} is a value and has no key {name!r}')
        config[part] = _parse(f'config.{part}', entry[0], text)
        return
    if name not in entry:
        raise unknown(f'key of config.{part}', name, entry)
    config[part][name] = _parse(f'config.{part}.{name}', entry[name][0], text)


def _parse(key: str, kind: Any, text: str) -> Any:
    """The value that a command-line text stands for, given the key's type."""
    words = {'true': True, 'false': False, 'none': None}
    try:
        value = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    try:
        return _checked(key, kind, value)
    except UserError:
        if isinstance(value, str):
            raise
        try:
            return _checked(key, kind, text)  # a name that looks like a number, say
        except UserError:
            return _checked(key, kind, value)


def _checked(key: str, kind: Any, value: Any) -> Any:
    """The value, brought to the key's type where nothing is lost; UserError where it does not fit."""
    fits, value = _fit(kind, value)
    if fits:
        return value
    if not _fit(_without_ranges(kind), value)[0] or isinstance(value, str):
        raise UserError(f'{key}: expected {_words(kind)}, got {value!r}')
    raise UserError(f'{key}: {value!r} is out of range, expected {_words(kind)}')


def _fit(kind: Any, value: Any) -> tuple[bool, Any]:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        fits, value = _fit(parts[0], value)
        return fits and all(value in bound for bound in parts[1:]), value
    if origin in (typing.Union, types.UnionType):
        for part in parts:
            fits, fitted = _fit(part, value)
            if fits:
                return True, fitted
        return False, value
    if origin is Literal:
        return value in parts, value
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            # One value stands for a tuple of one where any length will do.
            if parts[-1] is not Ellipsis or value is None:
                return False, value
            value = (value,)
        kinds = (parts[0],) * len(value) if parts[-1] is Ellipsis else parts
        fitted = [_fit(part, item) for part, item in zip(kinds, value, strict=False)]
        return len(kinds) == len(value) and all(ok for ok, _ in fitted), tuple(
            item for _, item in fitted
        )
    if kind is None or kind is type(None):
        return value is None, value
    if kind is float and type(value) is int:
        return True, float(value)
    if kind is int and type(value) is float and value.is_integer():
        return True, int(value)
    return type(value) is kind, value


def _without_ranges(kind: Any) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return parts[0]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_without_ranges(part) for part in parts)]  # noqa: UP007
    return kind


def _words(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return f'{_words(parts[0])} {" and ".join(map(str, parts[1:]))}'
    if origin in (typing.Union, types.UnionType):
        return ' or '.join(_words(part) for part in parts)
    if origin is Literal:
        return ' or '.join(map(repr, parts))
    if origin is tuple:
        return f'({", ".join("..." if part is Ellipsis else _words(part) for part in parts)})'
    return 'None' if kind in (None, type(None)) else kind.__name__
