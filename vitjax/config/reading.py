"""Reading a recipe or a run's config, overriding keys, checking them all."""

import contextlib
import dataclasses
import importlib.util
import json
import logging
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from vitjax.config.keys import PREPROCESSING, Config
from vitjax.config.types import checked, parse, signature
from vitjax.errors import UserError, unknown
from vitjax.files import to_path

NAMED_PARTS = ('task', 'model', 'optimizer', 'schedule')
_LENGTHS = ('steps', 'epochs', 'examples')

logger = logging.getLogger(__name__)


def base_config() -> ml_collections.ConfigDict:
    """Every key with its default; a recipe changes some and returns it."""
    return ml_collections.ConfigDict(dataclasses.asdict(Config()), type_safe=False)


def read_config(
    spec: str, overrides: Mapping[str, str] | None = None, run: Path | None = None
) -> ml_collections.ConfigDict:
    """Reads a recipe `FILE` or `FILE:ARG`, applies overrides and checks every key.

    Args:
      spec: path of a Python file with `get_config(arg=None)`, or of a run's `config.json`.
      overrides: dotted key -> text, as the command line gives them: `{'model.depth': '6'}`.
      run: folder of a run that may have begun; what the recipe leaves to pretrained weights is then
        as it was found at the start, and the weights are not needed any more.

    Returns:
      A complete config. Nothing was built or compiled.

    Raises:
      UserError: no such file, unknown key (with the nearest one), wrong type, value out of range.
    """
    path, argument = spec, ''
    if ':' in spec and not to_path(spec).is_file():
        path, _, argument = spec.rpartition(':')
    if not to_path(path).is_file():
        raise UserError(f'no config file {path!r}')
    config = _from_json(path) if path.endswith('.json') else _run_recipe(path, argument or None)
    return complete(config, overrides, run)


def complete(
    config: ml_collections.ConfigDict,
    overrides: Mapping[str, str] | None = None,
    run: Path | None = None,
) -> ml_collections.ConfigDict:
    """Applies overrides (names first), adds the arguments of what is named, checks every value.

    `run` is as in `read_config`. Returns a new ConfigDict, locked; raises UserError as `read_config` does.
    """
    values = dataclasses.asdict(Config())
    for key, value in config.to_dict().items():
        if key not in values:
            raise unknown('config key', key, values)
        if isinstance(values[key], dict) and not isinstance(value, dict):
            raise UserError(f'config.{key} has keys of its own ({", ".join(values[key])})')
        values[key] = values[key] | value if isinstance(values[key], dict) else value
    overrides = dict(overrides or {})
    for part in NAMED_PARTS:
        # A name decides which other keys its part has, so names come before the rest.
        if (name := overrides.pop(f'{part}.name', None)) is not None:
            values[part] = _renamed(part, values[part], name)
    start = None
    if run is not None and _is_open(values):
        from vitjax.training.finetuning import fill_from_run

        fill_from_run(values, run)
    if values['model']['name'] is None:
        from vitjax.training.finetuning import starting_point

        source = values['model'].get('pretrained')
        if text := overrides.get('model.pretrained'):
            source = parse('config.model.pretrained', str | None, text)
        chosen = {key: value for key, value in values['model'].items() if key != 'name'}
        start = starting_point(source, values['task']['name'])
        values['model'] = start.info['config']['model'] | chosen
    if any(key in overrides for key in _LENGTHS):
        # A length on the command line takes the place of the recipe's, whatever its unit.
        values |= dict.fromkeys(_LENGTHS)
    schema = {
        field.name: arguments(field.name, values[field.name].get('name'))
        if dataclasses.is_dataclass(field.type)
        else (field.type, field.default)
        for field in dataclasses.fields(Config)
    }
    for key, text in overrides.items():
        _override(values, schema, key, text)
    if _is_open(values):
        from vitjax.training.finetuning import fill_in

        defaults = {name: default for name, (_, default) in schema['model'].items()}
        values['model'] = defaults | values['model']
        fill_in(values, start)
    for key, entry in schema.items():
        if isinstance(entry, tuple):
            values[key] = checked(f'config.{key}', entry[0], values[key])
            continue
        for name in values[key]:
            if name not in entry:
                raise unknown(f'key of config.{key}', name, entry)
        values[key] = {
            name: checked(f'config.{key}.{name}', kind, values[key].get(name, default))
            for name, (kind, default) in entry.items()
        }
    if sum(values[key] is not None for key in _LENGTHS) != 1:
        raise UserError('give exactly one of config.steps, config.epochs and config.examples')
    return ml_collections.ConfigDict(values, type_safe=False).lock()


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
        if not isinstance(name, str) or name not in known:
            raise unknown(part, str(name), known)
        keys |= {k: v for k, v in signature(known[name]).items() if k not in keys}
    return keys


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


def _is_open(values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a config leaves something to pretrained weights or to the data."""
    model = values['model']
    facts = (model['name'], model.get('num_classes', 0), *map(values['data'].get, PREPROCESSING))
    return None in facts


def _renamed(part: str, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys of a part under another name: the common ones, and arguments that were chosen."""
    if name == values['name']:
        return dict(values)
    old = arguments(part, values['name']) if values['name'] else {}
    if part == 'model' and name.lower() == 'none':  # the model is what the pretrained weights are
        name, new = None, values
    else:
        new = arguments(part, name)
    kept = {
        key: value
        for key, value in values.items()
        if key in new and (key not in old or value != old[key][1])
    }
    return kept | {'name': name}


def _run_recipe(path: str, argument: str | None) -> ml_collections.ConfigDict:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None:
        raise UserError(f'{path}: a config is a Python file or a config.json')
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(argument)
    except UserError:
        raise
    except Exception as error:
        # ml_collections names the nearest key, in a message of several lines.
        raise UserError(f'{path}: {" ".join(str(error).split())}') from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f'{path}: get_config() returned {type(config).__name__}, not a ConfigDict')
    if argument is not None:
        with contextlib.suppress(Exception):  # what a recipe that needs one raises without
            if config == module.get_config(None):
                logger.warning('%s: the argument %r changes nothing', path, argument)
    return config


def _from_json(path: str) -> ml_collections.ConfigDict:
    try:
        return ml_collections.ConfigDict(json.loads(to_path(path).read_text()), type_safe=False)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is not a config: {error}') from error


def _override(values, schema: Mapping[str, Any], key: str, text: str) -> None:
    part, _, name = key.partition('.')
    if part not in schema:
        raise unknown('config key', part, schema)
    entry = schema[part]
    if isinstance(entry, tuple):
        if name:
            raise UserError(f'config.{part} is a value and has no key {name!r}')
        values[part] = parse(f'config.{part}', entry[0], text)
        return
    if not name:
        raise UserError(f'config.{part} has keys of its own; say config.{part}.{next(iter(entry))}')
    if name not in entry:
        raise unknown(f'key of config.{part}', name, entry)
    values[part][name] = parse(f'config.{part}.{name}', entry[name][0], text)
