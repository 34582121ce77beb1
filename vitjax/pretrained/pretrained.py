"""A trained model with all that its use takes; loading and saving a run's folder."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.checkpoints import restore_model, save_model
from vitjax.config import read_config
from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError, unknown
from vitjax.files import read_json, write_atomically
from vitjax.layers.patches import as_pair
from vitjax.models.registry import create_model


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model, its weights and what surrounds it.

    Attributes:
      model: the Flax module.
      variables: what `model.apply` takes: {'params': ...} and other collections, if it has any.
      preprocess: images (paths, PIL, uint8 arrays) -> [B, H, W, C] float32, as the model takes them.
      labels: names of the classes, None if unknown.
      info: the config it was trained with (`config`), the step and the source.
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    info: dict[str, Any]


def load(source: str | Path, **overrides) -> Pretrained:
    """Loads a trained model from a run's folder.

    Args:
      source: the folder, as `vitjax train --workdir` or `vitjax.save` wrote it.
      overrides: constructor arguments of the model, such as `scan=True`.

    Raises:
      UserError: no such folder, files missing or damaged, or weights that do not fit the model.
    """
    folder = Path(source)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    if not (folder / 'config.json').is_file():
        raise UserError(f'{folder} is not the folder of a run: it has no config.json')
    config = read_config(str(folder / 'config.json')).to_dict()
    labels = read_json(folder / 'labels.json')
    config['precision']['compute'] = jnp.dtype(
        overrides.pop('dtype', config['precision']['compute'])
    ).name
    config['model'] |= overrides
    model = create_model(**config['model'], dtype=jnp.dtype(config['precision']['compute']))
    size, channels = as_pair(model.image_size), model.in_channels
    preprocess = Preprocess.load(folder / 'preprocess.json')
    preprocess = dataclasses.replace(preprocess, image_size=size, channels=channels)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *size, channels)))
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    variables = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device), variables
    )
    params = variables.pop('params')
    parts = {'params': params, 'averaged': {}, 'model_state': variables}
    if config['optimizer']['ema'] is not None:
        parts['averaged'] = params
        if variables:
            parts['averaged_state'] = variables
    parts, step = restore_model(folder / 'checkpoints', parts)
    model_state = parts.get('averaged_state', parts['model_state'])
    return Pretrained(
        model=model,
        variables={'params': parts['averaged'] or parts['params'], **model_state},
        preprocess=preprocess,
        labels=tuple(labels) if labels else None,
        info={'config': config, 'step': step, 'source': str(source)},
    )


def save(pretrained: Pretrained, path: str | Path, format: str = 'vitjax') -> None:
    """Writes a folder that `load` reads and that holds the weights only once.

    Args:
      path: a folder that does not exist yet or is empty.
      format: 'vitjax', the layout of a run's folder.

    Raises:
      UserError: an unknown format, or a folder that is in use.
    """
    if format != 'vitjax':
        raise unknown('format', format, ['vitjax'])
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'{folder} exists and is not an empty folder')
    model_state = dict(pretrained.variables)
    params = model_state.pop('params')
    model = {'params': params, 'averaged': {}, 'model_state': model_state}
    save_model(folder / 'checkpoints', pretrained.info['step'], model)
    config = pretrained.info['config']
    config = config | {'optimizer': config['optimizer'] | {'ema': None}}
    write_atomically(folder / 'config.json', json.dumps(config, indent=2) + '\n')
    write_atomically(folder / 'labels.json', json.dumps(pretrained.labels) + '\n')
    pretrained.preprocess.save(folder / 'preprocess.json')
