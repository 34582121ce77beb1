"""A run's folder, as `vitjax train --workdir` writes it and `vitjax.save` does."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from vitjax.checkpoints import restore_variables, save_model
from vitjax.config import read_config
from vitjax.data.inputs import read_labels
from vitjax.data.preprocess import Preprocess
from vitjax.data.text import TextPreprocess
from vitjax.errors import UserError
from vitjax.files import read_json, write_atomically
from vitjax.models.registry import create_model
from vitjax.pretrained.comparing import check_same
from vitjax.pretrained.layouts import Parts, variable_shapes

_ORIGIN = 'origin.json'  # what a converted model was, so that its positions are resampled its way


def read_run(
    folder: Path, overrides: dict[str, Any], average: int = 1
) -> tuple[Parts, dict[str, Any], int]:
    """A run's model with other constructor arguments, its config and the step of its checkpoint.

    The parameters are the mean of those of the newest `average` checkpoints.

    Raises:
      UserError: files missing or damaged, or weights that do not fit the model.
    """
    if not (folder / 'config.json').is_file():
        raise UserError(
            f'{folder} is not the folder of a run: it has no config.json, nor other weights'
        )
    config = read_config(str(folder / 'config.json')).to_dict()
    if (folder / 'text.json').is_file():
        labels, preprocess = None, TextPreprocess.load(folder)
    else:
        labels = read_labels(folder)
        preprocess = Preprocess.load(folder).facts
    origin = read_json(folder / _ORIGIN) if (folder / _ORIGIN).is_file() else {}
    if not isinstance(origin, dict):
        raise UserError(f'{folder / _ORIGIN} is damaged: it holds no object')
    arguments = config['model'] | overrides
    name, _ = arguments.pop('name'), arguments.pop('pretrained')
    variables = variable_shapes(create_model(name, **arguments))
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    variables = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device), variables
    )
    averaged = config['optimizer']['ema'] is not None
    variables, step = restore_variables(
        folder / 'checkpoints', variables, averaged=averaged, average=average
    )
    parts = Parts(
        name,
        arguments,
        flatten_dict(variables.pop('params'), sep='/'),
        preprocess,
        labels,
        state=variables,
        resampling=origin.get('resampling', Parts.resampling),
    )
    return parts, config, step


def write_run(folder: Path, pretrained) -> None:
    """Writes a folder that `read_run` reads and that holds the weights only once.

    Raises UserError where `info['config']` says another model.
    """
    state = dict(pretrained.variables)
    model = {'params': state.pop('params'), 'averaged': {}, 'model_state': state}
    save_model(folder / 'checkpoints', pretrained.info['step'], model)
    config = pretrained.info['config']
    arguments = {key: x for key, x in config['model'].items() if key != 'pretrained'}
    dtype = jnp.dtype(config['precision']['compute'])
    check_same(pretrained.model, create_model(**arguments, dtype=dtype))
    config = config | {'optimizer': config['optimizer'] | {'ema': None}}
    origin = {'resampling': pretrained.info['resampling']}
    for name, value in (
        ('config.json', config),
        ('labels.json', pretrained.labels),
        (_ORIGIN, origin),
    ):
        write_atomically(folder / name, json.dumps(value, indent=2) + '\n')
    pretrained.preprocess.save(folder)
