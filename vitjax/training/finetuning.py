"""Starting from weights that were trained elsewhere: what they say of a config, and the first variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from vitjax.checkpoints import array_shapes, compare_shapes, finished_steps
from vitjax.config import PREPROCESSING
from vitjax.data.preprocess import facts_for
from vitjax.data.sources import open_source
from vitjax.errors import Untold, UserError
from vitjax.files import read_json
from vitjax.pretrained import Pretrained, load
from vitjax.pretrained.layouts import SIZES


def starting_point(source: str | None, task: str) -> Pretrained:
    """The weights to start from, where they say what the model is: `info['config']['model']`.

    For classification it has no head yet, and of a masked autoencoder it is the encoder.

    Raises:
      UserError: no weights are named, or `vitjax.load` does not read them.
    """
    if source is None:
        raise UserError(
            'config.model.pretrained: say which weights to start from: a run, a file or folder of '
            'weights, or hf:owner/name'
        )
    headless = {'num_classes': 0} if task == 'classification' else {}
    return load(source, **headless)


def fill_from_run(values: Mapping[str, dict[str, Any]], run: Path) -> None:
    """Gives a config, in place, what it leaves open as the config of a run has it that has a checkpoint.

    A config of another model is left alone.
    """
    if not finished_steps(run / 'checkpoints') or not (run / 'config.json').is_file():
        return
    stored = read_json(run / 'config.json')
    chosen = {key: value for key, value in values['model'].items() if value is not None}
    if chosen.get('name', stored['model']['name']) == stored['model']['name']:
        values['model'] = stored['model'] | chosen
        facts = {name: stored['data'][name] for name in PREPROCESSING}
        values['data'] |= {name: x for name, x in facts.items() if values['data'][name] is None}


def fill_in(values: Mapping[str, Mapping[str, Any]], start: Pretrained | None) -> None:
    """Gives the parts of a config, in place, what they leave open (None).

    The number of classes is the data's; the preprocessing is that of the pretrained weights, which
    are read unless `start` has them.
    """
    model, data = values['model'], values['data']
    if 'in_channels' not in model:
        raise UserError(
            f'config.model.name {model["name"]} takes no images, which are preprocessed'
        )
    if 'num_classes' in model and model['num_classes'] is None:
        labels = open_source(data['name'], data['train_split'], data['path']).labels
        if not labels:
            raise UserError(
                f'{data["name"]} does not tell its classes; say config.model.num_classes'
            )
        model['num_classes'] = len(labels)
    if any(data[name] is None for name in PREPROCESSING):
        if model['pretrained'] is None:
            raise UserError(
                f'config.data.{", ".join(PREPROCESSING)} may be None only with '
                'config.model.pretrained'
            )
        preprocess = (start or _load_as(model)).preprocess
        facts = facts_for(model['in_channels'], preprocess.facts)
        data |= {name: facts[name] for name in PREPROCESSING if data[name] is None}


def starting_variables(model: Mapping[str, Any], shapes: Any) -> dict[str, Any]:
    """The variables of the pretrained weights that `config.model` names, in the host's memory.

    Args:
      model: `config.model`.
      shapes: of the variables of the model that is to be trained.

    Raises:
      UserError: weights that cannot be read or do not fit; names the arrays on both sides.
    """
    variables = _load_as(model).variables
    compare_shapes(model['pretrained'], array_shapes(variables), array_shapes(shapes))
    return jax.device_get(variables)


def _load_as(model: Mapping[str, Any]) -> Pretrained:
    """The pretrained weights, at the sizes of `config.model`."""
    arguments = {k: v for k, v in model.items() if k not in ('name', 'pretrained')}
    try:
        return load(model['pretrained'], **{k: v for k, v in arguments.items() if k in SIZES})
    except Untold:
        # Some files do not tell, say, the number of heads, and take the rest of the config as well.
        told = {name: value for name, value in arguments.items() if value is not None}
        return load(model['pretrained'], **told)
