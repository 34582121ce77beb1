"""Reading a recipe or a run's config, overriding keys, checking them all.

A config is data: reading one reads no weights and no data, and starts no backend. What it leaves open (None)
to pretrained weights or to the data is filled in by `vitjax.training.resolve`.
"""

import contextlib
import copy
import dataclasses
import importlib.util
import json
import logging
import re
import sys
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from vitjax import registry
from vitjax.config.keys import Callback, Config, Evaluation
from vitjax.config.recipes import recipe_path
from vitjax.config.types import REQUIRED, checked, parse, signature
from vitjax.errors import UserError, one_line, unknown
from vitjax.files import is_local, read_json, to_path

# Parts that have a name, and of whose name the other keys depend -> the kind in the registry.
NAMED_PARTS = {name: name for name in ('task', 'model', 'data', 'augment', 'optimizer', 'schedule')}
# Parts with any number of entries, each with a name -> kind, and the keys that every entry has.
GROUPS = {'evals': ('evaluator', Evaluation), 'callbacks': ('callback', Callback)}
# Arguments that are not keys: they are given by what builds the object.
GIVEN = {
    'model': ('dtype',),
    'task': (),
    'data': ('languages',),
    'augment': ('example', 'rng', 'preprocess'),
    'optimizer': ('learning_rate', 'stacks'),
    'schedule': ('total_steps', 'peak'),
    'evaluator': ('event',),
    'callback': ('event',),
}
_LENGTHS = ('steps', 'epochs', 'examples')

logger = logging.getLogger(__name__)


def base_config() -> ml_collections.ConfigDict:
    """Every key with its default; a recipe changes some and returns it."""
    return ml_collections.ConfigDict(dataclasses.asdict(Config()), type_safe=False)


def read_config(
    spec: str | Path | ml_collections.ConfigDict,
    overrides: Mapping[str, Any] | None = None,
    *,
    allow_code: bool | None = None,
) -> ml_collections.ConfigDict:
    """Reads a recipe, applies overrides and checks every key.

    Args:
      spec: path of a Python file with `get_config(arg=None)`, as 'FILE' or 'FILE:ARG'; 'vitjax:NAME' for a
        recipe that vitjax comes with, as 'vitjax:digits' or 'vitjax:translation/phrasebook'; path of a run's
        `config.json`; or a ConfigDict.
      overrides: dotted key -> value, or text as the command line gives it: `{'model.depth': '6'}`.
      allow_code: whether names may be import paths of code that is not part of vitjax; None: unless the
        config is in a bucket.

    Returns:
      A complete config, in which what is left to weights or data is None. Nothing was built or read.

    Raises:
      UserError: no such file, unknown key (with the nearest one), wrong type, value out of range, a name
        that cannot be found.
    """
    if isinstance(spec, ml_collections.ConfigDict):
        return complete(spec, overrides)
    path, argument = _split_argument(str(spec))
    place = to_path(path)
    allowed = is_local(place) if allow_code is None else allow_code
    with contextlib.nullcontext() if allowed else registry.refuse_code(path):
        config = (
            _from_json(place) if path.endswith('.json') else _run_recipe(path, argument or None)
        )
        return complete(config, overrides)


def complete(
    config: ml_collections.ConfigDict, overrides: Mapping[str, Any] | None = None
) -> ml_collections.ConfigDict:
    """Applies overrides (names first), adds the arguments of what is named, checks every value.

    Returns a new ConfigDict, locked; raises UserError as `read_config` does.
    """
    values = _with_defaults(config.to_dict())
    overrides = dict(overrides or {})
    for group in GROUPS:
        # A whole group: entries, or {} for none.
        if (entries := overrides.get(group)) is not None and entries in ({}, '{}', 'none'):
            values[group] = {}
            del overrides[group]
    for key in [key for key in overrides if key.rpartition('.')[2] == 'name']:
        # A name decides which other keys its part has, so names come before the rest.
        _rename(values, key, overrides.pop(key))
    if any(key in overrides for key in _LENGTHS):
        # A length on the command line takes the place of the recipe's, whatever its unit.
        values |= dict.fromkeys(_LENGTHS)
    for group in GROUPS:
        for entry in {key.split('.')[1] for key in overrides if key.startswith(f'{group}.')}:
            values[group].setdefault(entry, {})
    schema = _schema(values)
    for key, value in overrides.items():
        _override(values, schema, key, value)
    for part in NAMED_PARTS:
        # Of a key that code of one's own has as an argument too, None stands for the default there.
        for key in _own_arguments(part, values[part].get('name')):
            if values[part].get(key, 0) is None:
                del values[part][key]
    values = _checked_part('config', schema, values)
    if values['optimizer']['weight_decay'] is None and not registry.is_import_path(
        values['optimizer']['name']
    ):
        values['optimizer']['weight_decay'] = 0.0
    given = [key for key in _LENGTHS if values[key] is not None]
    if len(given) > 1:
        raise UserError('give exactly one of config.steps, config.epochs and config.examples')
    if not given:
        values['epochs'] = 1.0
    return ml_collections.ConfigDict(values, type_safe=False).lock()


def arguments(part: str, name: str | None = None) -> dict[str, tuple[Any, Any]]:
    """Keys of a part: name -> (type, default), those of what is named after the common ones.

    Without a name, for an object that is given in Python, those are left out.
    """
    return _keys(typing.get_type_hints(Config)[part], NAMED_PARTS.get(part), name)


def import_paths(config: Mapping[str, Any]) -> dict[str, str]:
    """The names of a config that are import paths: key -> name."""
    parts = {f'{part}.name': config[part] for part in NAMED_PARTS}
    for group in GROUPS:
        parts |= {f'{group}.{name}.name': entry for name, entry in config[group].items()}
    found = {key: part['name'] for key, part in parts.items()}
    return {key: name for key, name in found.items() if registry.is_import_path(name)}


def in_steps(
    duration: int | str | None, *, batch_size: int, epoch: int | None, key: str = 'duration'
) -> int | None:
    """A duration in steps; `epoch` is the number of examples in one. None stays None.

    >>> in_steps('2 epochs', batch_size=100, epoch=1000)
    20

    Raises UserError where it is none, or in epochs of a stream, which has none (`epoch` is None).
    """
    if duration is None or isinstance(duration, int):
        return duration
    number, _, unit = duration.strip().partition(' ')
    unit = unit.strip().rstrip('s') + 's'
    try:
        count = float(number)
    except ValueError:
        count = -1
    if unit not in ('steps', 'epochs', 'examples') or not 0 <= count < float('inf'):
        raise UserError(
            f"{key}: {duration!r} is no duration; write 500, '500 steps', '2 epochs' or '10000 examples'"
        )
    if unit == 'epochs' and epoch is None:
        raise UserError(f'{key}: {duration!r}, but a stream has no epochs; give steps or examples')
    examples = {'steps': batch_size, 'epochs': epoch, 'examples': 1}[unit]
    steps = count * examples / batch_size
    return max(round(steps), 1) if count else 0


def total_steps(config: ml_collections.ConfigDict, epoch: int | None) -> int:
    """How many steps the run takes; `epoch` is the number of examples in one, None for a stream."""
    if config.steps is not None:
        return config.steps
    unit = 'epochs' if config.epochs is not None else 'examples'
    return in_steps(
        f'{config[unit]} {unit}', batch_size=config.batch_size, epoch=epoch, key=f'config.{unit}'
    )


def _with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """The common keys with their defaults, and what is given."""
    values = dataclasses.asdict(Config())
    for key, value in given.items():
        if key not in values:
            raise unknown('config key', key, values)
        if isinstance(values[key], dict) and not isinstance(value, dict):
            raise UserError(f'config.{key} has keys of its own ({", ".join(values[key])})')
        if key in GROUPS:
            values[key] = {name: _entry(key, name, entry) for name, entry in value.items()}
        else:
            values[key] = values[key] | value if isinstance(values[key], dict) else value
    return values


def _entry(group: str, name: str, entry: Any) -> dict[str, Any]:
    if not re.fullmatch(r'[A-Za-z_][\w-]*', name) or name in ('train', 'speed'):
        raise UserError(f'config.{group}: {name!r} cannot be the name of an entry')
    if not isinstance(entry, Mapping):
        raise UserError(f"config.{group}.{name} has keys of its own; write {{'name': ...}}")
    return dict(entry)


def _schema(values: Mapping[str, Any]) -> dict[str, Any]:
    """Key -> (type, default), or for a part the same of its keys."""
    schema = {}
    for field in dataclasses.fields(Config):
        if field.name in GROUPS:
            kind, common = GROUPS[field.name]
            schema[field.name] = {
                name: _keys(common, kind, entry.get('name') or name)
                for name, entry in values[field.name].items()
            }
        elif dataclasses.is_dataclass(field.type):
            schema[field.name] = arguments(field.name, values[field.name].get('name'))
        else:
            schema[field.name] = (field.type, field.default)
    model = schema['model']
    if values['model'].get('name') is None:
        # It is what the pretrained weights are, or an object: its arguments are checked when it is known.
        schema['model'] = {name: (Any, value) for name, value in values['model'].items()} | model
    elif 'num_classes' in model and model['num_classes'][1] is not REQUIRED:
        model['num_classes'] = (model['num_classes'][0] | None, None)
    return schema


# Kind -> common keys that are also given to what an import path names, where it has such an argument.
_PASSED_ON = {
    'data': ('path',),
    'optimizer': ('learning_rate', 'weight_decay', 'no_decay'),
    'schedule': ('warmup', 'cooldown'),
}


def _keys(common: type, kind: str | None, name: str | None) -> dict[str, tuple[Any, Any]]:
    hints = typing.get_type_hints(common, include_extras=True)
    keys = {field.name: (hints[field.name], field.default) for field in dataclasses.fields(common)}
    if kind is None or name is None:
        return keys
    found = registry.find(kind, name)
    own = signature(found, reserved=(*GIVEN[kind], *registry.call_arguments(kind, found)))
    if registry.is_import_path(name):
        for key in own:
            if key in keys and key not in _PASSED_ON.get(kind, ()) and key != 'name':
                raise UserError(
                    f'{name!r} has an argument {key!r}, which is a key that vitjax itself uses in this '
                    'part of a config; rename the argument'
                )
        return keys | {key: value for key, value in own.items() if key != 'name'}
    return keys | {key: value for key, value in own.items() if key not in keys}


def _own_arguments(part: str, name: str | None) -> Collection[str]:
    """The arguments of what an import path names; none for a built-in name."""
    if not registry.is_import_path(name):
        return ()
    return signature(registry.find(NAMED_PARTS[part], name), reserved=GIVEN[NAMED_PARTS[part]])


def _rename(values: dict[str, Any], key: str, name: Any) -> None:
    """Gives a part, in place, another name, and the keys that it has under that name."""
    *path, _ = key.split('.')
    if len(path) == 1 and path[0] in NAMED_PARTS:
        (part,) = path
        kind, common = NAMED_PARTS[part], typing.get_type_hints(Config)[part]
        old_values = values[part]
        old_name = old_values.get('name')
    elif len(path) == 2 and path[0] in GROUPS:
        part, entry = path
        kind, common = GROUPS[part]
        old_values = _entry(part, entry, values[part].get(entry, {}))
        old_name = old_values.get('name') or (entry if entry in values[part] else None)
    else:
        raise unknown('config key', key, [f'{part}.name' for part in NAMED_PARTS])
    if isinstance(name, str) and name.lower() == 'none':
        name = None
    renamed = {key: value for key, value in old_values.items() if key != 'name'} | {'name': name}
    if name != old_name and name is not None:
        old = _keys(common, kind, old_name) if old_name is not None else {}
        new = _keys(common, kind, name)
        # The common keys, and arguments that were chosen.
        renamed = {
            key: value
            for key, value in renamed.items()
            if key in new and (key not in old or value != old[key][1] or key == 'name')
        }
    if len(path) == 1:
        values[part] = renamed
    else:
        values[part] = values[part] | {entry: renamed}


def _override(values: dict[str, Any], schema: Mapping[str, Any], key: str, value: Any) -> None:
    """Sets one key, in place."""
    place, known, path = values, schema, []
    words = key.split('.')
    for word in words:
        if path == ['model'] and values['model'].get('name') is None:
            known.setdefault(word, (Any, None))
        if word not in known and not path:
            raise unknown('config key', word, known)
        if word not in known:
            raise unknown(f'key of config.{".".join(path)}', '.'.join(words[len(path) :]), known)
        kind = known[word]
        path.append(word)
        if isinstance(kind, dict):
            place, known = place[word], kind
            continue
        if len(path) < len(words):
            rest = '.'.join(words[len(path) :])
            if path[:-1]:
                raise unknown(f'key of config.{".".join(path[:-1])}', f'{word}.{rest}', known)
            raise UserError(f'config.{word} is a value and has no key {rest!r}')
        place[word] = parse(f'config.{key}', kind[0], value)
        return
    first = next(iter(known), 'NAME')
    raise UserError(f'config.{key} has keys of its own; say config.{key}.{first}')


def _checked_part(key: str, schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a part and of the parts in it, each of its type, or its default."""
    for name in values:
        if name not in schema:
            raise unknown(f'key of {key}', name, schema)
    found = {}
    for name, entry in schema.items():
        if isinstance(entry, dict):
            found[name] = _checked_part(f'{key}.{name}', entry, values[name])
            continue
        kind, default = entry
        value = values.get(name, default)
        if value is REQUIRED:
            named = values.get('name')
            raise UserError(f'{key}.{name} must be given: {named} has no default for it')
        if value is dataclasses.MISSING:
            value = {}
        found[name] = checked(f'{key}.{name}', kind, value) if value is not default else value
    return found


def _split_argument(spec: str) -> tuple[str, str]:
    """Path of a config, and the argument after a colon."""
    if spec.startswith('vitjax:'):
        name, _, argument = spec.removeprefix('vitjax:').partition(':')
        return str(recipe_path(name)), argument
    path, argument = spec, ''
    if ':' in spec and not to_path(spec).is_file():
        path, _, argument = spec.rpartition(':')
    if not to_path(path).is_file():
        raise UserError(f'no config file {path!r}')
    return path, argument


def _run_recipe(path: str, argument: str | None) -> ml_collections.ConfigDict:
    module = _recipe_module(path)
    try:
        config = module.get_config(argument)
    except UserError:
        raise
    except Exception as error:
        # ml_collections names the nearest key, in a message of several lines.
        raise UserError(f'{path}: {one_line(str(error), 500)}') from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f'{path}: get_config() returned {type(config).__name__}, not a ConfigDict')
    if argument is not None:
        config = copy.deepcopy(config)
        with contextlib.suppress(Exception):  # what a recipe that needs one raises without
            if config == module.get_config(None):
                logger.warning('%s: the argument %r changes nothing', path, argument)
    return config


def _recipe_module(path: str) -> types.ModuleType:
    """The module of a recipe, run anew as the name of its file, by which a config may name its classes.

    The current folder and that of the recipe are then searched for import paths, too.
    """
    file = Path(path).resolve()
    for folder in (Path.cwd(), file.parent):
        registry.add_folder(folder)
    name = file.stem
    taken = sys.modules.get(name)
    is_other = taken is not None and not getattr(taken, '_is_recipe', False)
    if is_other or _is_installed(name):
        name = f'_recipe_{name}'  # as of a recipe in a file such as json.py or timm.py
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None:
        raise UserError(f'{path}: a config is a Python file or a config.json')
    module = importlib.util.module_from_spec(spec)
    module._is_recipe = True
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f'{path}: {one_line(str(error), 500)}') from error
    return module


def _is_installed(name: str) -> bool:
    """Whether a name is that of a module of the standard library or of an installed package."""
    if name in sys.stdlib_module_names:
        return True
    spec = importlib.util.find_spec(name) if name not in sys.modules else None
    return spec is not None and 'site-packages' in (spec.origin or '')


def _from_json(path: Path) -> ml_collections.ConfigDict:
    """The config of a run; code that it names is found where `code.json` beside it says that it was."""
    try:
        config = ml_collections.ConfigDict(json.loads(path.read_text()), type_safe=False)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f'{path} is not a config: {error}') from error
    if not any(config.get(key) for key in _LENGTHS):
        raise UserError(
            f'{path} is not a whole config: give exactly one of config.steps, config.epochs and '
            'config.examples'
        )
    if is_local(path):
        registry.add_folder(Path.cwd())
        code = path.with_name('code.json')
        if code.is_file():
            registry.remember_code(read_json(code), path.parent)
    return config
