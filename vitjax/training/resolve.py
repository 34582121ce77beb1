"""Fills in the open values (None) of a config, once, from pretrained weights and from the data.

A config may leave the model (`config.model.name`), the number of classes and the preprocessing to weights or
data. They are read here, once, and kept until the run has started.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import registry
from vitjax.checkpoints import array_shapes, compare_shapes, finished_steps
from vitjax.config import PREPROCESSING, complete
from vitjax.data.preprocess import settings_for_channels
from vitjax.data.sources import Splits, open_split, open_splits
from vitjax.errors import MissingMetadataError, UserError
from vitjax.files import read_json
from vitjax.models.contract import submodules
from vitjax.pretrained.layouts.base import SIZES
from vitjax.pretrained.loading import Pretrained, Weights


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A config without open values, and the data and weights that were read to complete it.

    Attributes:
      config: complete.
      splits: of the data set, if they were opened; else None.
      weights: to start from, if `config.model.pretrained` names any and they were read.
    """

    config: ml_collections.ConfigDict
    splits: Splits | None = None
    weights: Weights | None = None


def resolve(
    config: ml_collections.ConfigDict,
    *,
    run: Path | None = None,
    model: nn.Module | None = None,
    splits: Splits | None = None,
    needs_classes: bool = False,
    read_data: bool = True,
) -> Resolved:
    """Fills in what a config leaves open.

    Args:
      config: complete, as `read_config` returns it.
      run: folder of a run that may have begun: what is left open is then as it was found at its start, and
        the weights are not needed any more.
      model: the model, if it is given as an object.
      splits: of the data set, if they are given as objects.
      needs_classes: whether the task needs a model with a head for the classes of the data.
      read_data: False: the number of classes is then the model's default; for planning.

    Raises:
      UserError: no weights are named, they cannot be read, or an open value cannot be determined.
    """
    values = config.to_dict()
    part = values['model']
    if run is not None and _is_open(values, model):
        _fill_from_run(values, run)
    weights = facts = None
    if part['name'] is None and model is None:
        weights = _weights(part)
        # A head for the classes of the data is made later; of a masked autoencoder the encoder is taken.
        headless = {'num_classes': 0} if needs_classes or 'num_classes' in part else {}
        start = _model(weights, headless, part)
        chosen = {key: value for key, value in part.items() if key != 'name'}
        values['model'] = start.info['config']['model'] | chosen
        facts = getattr(start.preprocess, 'facts', None)
        del start  # its arrays are not needed yet
    elif model is None and part['pretrained'] is not None and _preprocessing_is_open(values):
        weights = _weights(part)
        sizes = {name: value for name, value in part.items() if name in SIZES and value is not None}
        facts = getattr(_model(weights, sizes, part).preprocess, 'facts', None)
    if model is None:
        # Now the arguments of the model are known, and checked.
        values = complete(ml_collections.ConfigDict(values, type_safe=False)).to_dict()
        if values['model'].get('num_classes', 0) is None:
            number, splits = _num_classes(values, splits, read_data)
            values['model']['num_classes'] = number
    if _preprocessing_is_open(values):
        _fill_preprocessing(values, model, facts)
    values = ml_collections.ConfigDict(values, type_safe=False)
    return Resolved(complete(values), splits, weights)


def starting_variables(
    config: Mapping[str, Any],
    weights: Weights | None,
    model: nn.Module,
    shapes: Mapping[str, Any],
    init: Callable[[], dict[str, Any]],
    inputs: Sequence[jax.Array],
) -> dict[str, Any] | None:
    """The variables to start from, in the host's memory; None for random ones.

    Args:
      config: `config.model`.
      weights: those of `config.model.pretrained`, if they were read already.
      model: that is to be trained.
      shapes: of its variables.
      init: gives random variables, where only a part of them comes from weights.
      inputs: with which the model is initialised.

    Raises:
      UserError: weights that cannot be read or do not fit; names the arrays on both sides.
    """
    variables = None
    if config['pretrained'] is not None:
        arguments = {k: v for k, v in config.items() if k not in ('name', 'pretrained', 'load')}
        sizes = {name: value for name, value in arguments.items() if name in SIZES}
        for name in SIZES - arguments.keys():
            if hasattr(model, name):
                sizes[name] = getattr(model, name)
        found = _model(weights or _weights(config), sizes, arguments)
        _check_images(found, config['pretrained'])
        variables = jax.device_get(dict(found.variables))
        wanted = {name: tree for name, tree in shapes.items()}
        own = shapes['params'].get('task')
        if own is not None:
            wanted['params'] = {k: v for k, v in shapes['params'].items() if k != 'task'}
        compare_shapes(config['pretrained'], array_shapes(variables), array_shapes(wanted))
        if own is not None:
            variables['params']['task'] = jax.device_get(init())['params']['task']
    if config['load']:
        variables = jax.device_get(init()) if variables is None else variables
        modules = submodules(model, *inputs)
        for path, source in config['load'].items():
            variables = _filled(variables, path, source, modules)
    return variables


def _filled(
    variables: Mapping[str, Any], path: str, source: str, modules: Mapping[str, nn.Module]
) -> dict[str, Any]:
    """The variables with those of a submodule from a source."""
    where = f'config.model.load: {path!r}'
    if path not in modules:
        raise UserError(
            f'{where} is no submodule of the model; it has {", ".join(filter(None, modules))}'
        )
    module = modules[path]
    sizes = {name: getattr(module, name) for name in SIZES if hasattr(module, name)}
    found = Weights(source).model(on_host=True, **sizes)
    _check_images(found, source)
    prefix = tuple(path.split('/'))
    flat = flatten_dict(variables)
    stored = flatten_dict(dict(found.variables))
    wanted = {key: value.shape for key, value in flat.items() if key[1 : 1 + len(prefix)] == prefix}
    here = {(key[0], *prefix, *key[1:]): value for key, value in stored.items()}

    def shown(shapes):
        return {'/'.join(key): tuple(shape) for key, shape in shapes.items()}

    compare_shapes(
        f'{where} from {source}', shown({k: v.shape for k, v in here.items()}), shown(wanted)
    )
    return unflatten_dict(flat | {key: jax.device_get(value) for key, value in here.items()})


def _check_images(found: Pretrained, source: str) -> None:
    if not hasattr(found.preprocess, 'pixels'):
        raise UserError(
            f'{source} holds a model of sentences, whose tokenizer is another than that of the data'
        )


def _is_open(values: Mapping[str, Any], model: nn.Module | None) -> bool:
    """Whether a config leaves something to pretrained weights or to the data."""
    part = values['model']
    open_model = model is None and (part['name'] is None or part.get('num_classes', 0) is None)
    return open_model or _preprocessing_is_open(values)


def _preprocessing_is_open(values: Mapping[str, Any]) -> bool:
    return any(values['data'][name] is None for name in PREPROCESSING)


def _fill_from_run(values: dict[str, Any], run: Path) -> None:
    """Gives a config, in place, what it leaves open as the config of a run has it that has a checkpoint.

    A config of another model is left alone.
    """
    if not finished_steps(run / 'checkpoints') or not (run / 'config.json').is_file():
        return
    stored = read_json(run / 'config.json')
    chosen = {key: value for key, value in values['model'].items() if value is not None}
    if chosen.get('name', stored['model']['name']) == stored['model']['name']:
        values['model'].update(stored['model'] | chosen)
        facts = {name: stored['data'][name] for name in PREPROCESSING}
        values['data'] |= {name: x for name, x in facts.items() if values['data'][name] is None}


def _weights(part: Mapping[str, Any]) -> Weights:
    if part['pretrained'] is None:
        raise UserError(
            'config.model.pretrained: say which weights to start from: a run, a file or folder of '
            'weights, or hf:owner/name'
        )
    return Weights(part['pretrained'])


def _model(weights: Weights, sizes: Mapping[str, Any], arguments: Mapping[str, Any]) -> Pretrained:
    """The pretrained model, at these sizes."""
    try:
        return weights.model(on_host=True, **sizes)
    except MissingMetadataError:
        # Some files lack metadata such as the number of heads; it is then taken from the config.
        names = ('name', 'pretrained', 'load', *sizes)
        told = {k: v for k, v in arguments.items() if v is not None and k not in names}
        return weights.model(on_host=True, **told, **sizes)


def _num_classes(
    values: Mapping[str, Any], splits: Splits | None, read_data: bool
) -> tuple[int, Splits | None]:
    """The number of the data's classes, and the splits, which are then open."""
    data = values['data']
    if not read_data:
        default = registry.parameters(registry.find('model', values['model']['name']))[
            'num_classes'
        ]
        return default.default, splits
    name = data['name'] or 'data'
    if splits is None:
        splits = open_splits(data['name'], data)
    labels = getattr(open_split(splits, data['train_split'], name, data['path']), 'labels', None)
    if not labels:
        raise UserError(f'{name} does not tell its classes; say config.model.num_classes')
    return len(labels), splits


def _fill_preprocessing(
    values: Mapping[str, Any], model: nn.Module | None, facts: Mapping[str, Any] | None
) -> None:
    """Gives `config.data`, in place, the preprocessing of the pretrained weights where it is left open."""
    part, data = values['model'], values['data']
    channels = getattr(model, 'in_channels', None) if model else part.get('in_channels')
    if channels is None:
        raise UserError(f'config.model.name {part["name"]} takes no images, which are preprocessed')
    if facts is None:
        raise UserError(
            f'config.data.{", ".join(PREPROCESSING)} may be None only with config.model.pretrained'
        )
    facts = settings_for_channels(channels, facts)
    data |= {name: facts[name] for name in PREPROCESSING if data[name] is None}
