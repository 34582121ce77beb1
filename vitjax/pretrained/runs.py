"""A run's folder, as `vitjax train --workdir` writes it and `vitjax.save` does."""

import copy
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from vitjax import registry
from vitjax.checkpoints import array_shapes, compare_shapes, restore_variables, save_model
from vitjax.config import import_paths, read_config
from vitjax.data.inputs import read_labels
from vitjax.data.preprocess import Preprocess
from vitjax.data.text import TextPreprocess
from vitjax.errors import UserError
from vitjax.files import read_json, write_atomically
from vitjax.models.contract import example_inputs, read_inputs, write_inputs
from vitjax.models.registry import create_model
from vitjax.pretrained.comparing import check_same
from vitjax.pretrained.layouts.base import Parts, variable_shapes
from vitjax.pretrained.model import Pretrained

_ORIGIN = 'origin.json'  # what a converted model was, so that its positions are resampled its way


class StoredRun:
    """A run's model, of which the weights are read once.

    Args:
      folder: of the run.
      step: of the checkpoint; None for the newest.
      average: the parameters are the mean of those of so many checkpoints.
      model: the module, in place of that of the config.

    Raises:
      UserError: files missing or damaged, or weights that do not fit the model.
    """

    def __init__(
        self,
        folder: Path,
        step: int | None = None,
        average: int = 1,
        model: nn.Module | None = None,
    ):
        self._folder, self.model = folder, model
        self._config = self.read_config(folder)
        if model is None and self._config['model']['name'] is None:
            raise UserError(
                f'{folder}: its model was given as an object in Python; give it again (model=...)'
            )
        if (folder / 'text.json').is_file():
            self._labels, self._preprocess = None, TextPreprocess.load(folder)
        else:
            self._labels, self._preprocess = read_labels(folder), None
            if (folder / 'preprocess.json').is_file():
                self._preprocess = Preprocess.load(folder)
        origin = read_json(folder / _ORIGIN) if (folder / _ORIGIN).is_file() else {}
        if not isinstance(origin, dict):
            raise UserError(f'{folder / _ORIGIN} is damaged: it holds no object')
        self._resampling = origin.get('resampling', Parts.resampling)
        one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device),
            self._shapes({}),
        )
        self._variables, self.step = restore_variables(
            folder / 'checkpoints',
            shapes,
            averaged=self._config['optimizer']['ema'] is not None,
            step=step,
            average=average,
        )

    @staticmethod
    def read_config(folder: Path) -> dict[str, Any]:
        """The config of a run; UserError if it has none, or a damaged one."""
        if not (folder / 'config.json').is_file():
            raise UserError(
                f'{folder} is not the folder of a run: it has no config.json, nor other weights'
            )
        # Whether it may name code is decided by what it is loaded for.
        return read_config(folder / 'config.json', allow_code=True).to_dict()

    def parts(self, overrides: dict[str, Any]) -> tuple[Parts, dict[str, Any]]:
        """The model with other constructor arguments, and the config.

        Raises UserError where the weights do not fit it.
        """
        name, arguments = self._arguments(overrides)
        if overrides:
            place = self._folder / 'checkpoints' / str(self.step)
            stored = array_shapes(self._variables['params'])
            compare_shapes(place, stored, array_shapes(self._shapes(overrides)['params']))
        state = dict(self._variables)
        preprocess = self._preprocess
        if isinstance(preprocess, Preprocess) and hasattr(self._module(overrides), 'image_size'):
            preprocess = preprocess.facts  # size and channels are the model's
        parts = Parts(
            name,
            arguments,
            flatten_dict(state.pop('params'), sep='/'),
            preprocess,
            self._labels,
            state=state,
            resampling=self._resampling,
        )
        return parts, copy.deepcopy(self._config)

    def _arguments(self, overrides: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        part = self._config['model'] | overrides
        keys = {k: x for k, x in part.items() if k not in ('name', 'pretrained', 'load')}
        return self._config['model']['name'], keys if self.model is None else {}

    def _module(self, overrides: dict[str, Any]) -> nn.Module:
        if self.model is not None:
            return self.model
        name, arguments = self._arguments(overrides)
        return create_model(name, **arguments)

    @property
    def inputs(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """With which its model is initialised."""
        return read_inputs(self._folder, self._module({}))

    def _shapes(self, overrides: dict[str, Any]) -> dict[str, Any]:
        model = self._module(overrides)
        return variable_shapes(model, read_inputs(self._folder, model))


def write_run(folder: Path, pretrained: Pretrained) -> None:
    """Writes a folder that `StoredRun` reads and that holds the weights only once.

    Raises UserError where `info['config']` says another model.
    """
    state = dict(pretrained.variables)
    model = {'params': state.pop('params'), 'averaged': {}, 'model_state': state}
    save_model(folder / 'checkpoints', pretrained.info['step'], model)
    config = pretrained.info['config']
    if config['model']['name'] is not None:
        arguments = {k: x for k, x in config['model'].items() if k not in ('pretrained', 'load')}
        dtype = {'dtype': jnp.dtype(config['precision']['compute'])}
        dtype = dtype if hasattr(pretrained.model, 'dtype') else {}
        check_same(pretrained.model, create_model(**arguments, **dtype))
    config = config | {'optimizer': config['optimizer'] | {'ema': None}}
    origin = {'resampling': pretrained.info['resampling']}
    for name, value in (
        ('config.json', config),
        ('labels.json', pretrained.labels),
        (_ORIGIN, origin),
    ):
        write_atomically(folder / name, json.dumps(value, indent=2) + '\n')
    if pretrained.preprocess is not None:
        pretrained.preprocess.save(folder)
    write_inputs(folder, pretrained.info.get('inputs') or example_inputs(pretrained.model))
    if code := import_paths(config):
        code = registry.describe_code(code) | {'objects': []}
        write_atomically(folder / 'code.json', json.dumps(code, indent=2) + '\n')
