"""Loading a trained model from anywhere."""

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from vitjax import registry
from vitjax.checkpoints import best_step
from vitjax.config import PREPROCESSING, base_config, complete
from vitjax.data.preprocess import Preprocess, settings_for_channels
from vitjax.data.text import TextPreprocess
from vitjax.errors import UserError, one_line
from vitjax.files import is_local, to_path
from vitjax.layers.patches import as_pair
from vitjax.models.registry import create_model
from vitjax.pretrained.files import weights_in
from vitjax.pretrained.hub import PREFIX, local_copy, snapshot
from vitjax.pretrained.layouts import find_layout
from vitjax.pretrained.layouts.base import (
    SIZES,
    Checkpoint,
    Layout,
    Parts,
    open_checkpoint,
)
from vitjax.pretrained.model import Pretrained
from vitjax.pretrained.resize import move_prefix_positions, resize
from vitjax.pretrained.runs import StoredRun

logger = logging.getLogger(__name__)


def load(
    source: str | Path,
    *,
    step: int | None = None,
    best: str | bool | None = None,
    average: int = 1,
    model: nn.Module | None = None,
    allow_code: bool = False,
    **overrides: Any,
) -> Pretrained:
    """Loads a trained model, whatever wrote it.

    Args:
      source: a run's folder, or a file or folder of weights of any layout in `layouts.LAYOUTS`, here or
        in a bucket (gs://...), or `hf:owner/name[@revision]`, see `vitjax.pretrained.hub`.
      step: of a run, the checkpoint to take; None for the newest.
      best: of a run, the metric by which to choose the checkpoint, as 'accuracy' or '-loss' (less is better);
        True for that of its `config.checkpoint.best`.
      average: of a run, so many checkpoints, this one and those before it, whose mean is taken (Vaswani et
        al. 2017, section 6.1).
      model: the module that the weights are for, where a run was given it as an object or its code is
        gone.
      allow_code: whether a run in a bucket or on the Hub may name code that is not part of vitjax, which is
        then imported. A run here may.
      overrides: constructor arguments of the model. With another `image_size`, `patch_size`,
        `in_channels`, `num_classes` or `prefix_positions` the weights are adapted, see
        `vitjax.pretrained.resize`. Others say what the files do not tell, such as `num_heads`, or are
        switches such as `scan`, `dtype`. Also what of `Preprocess` is other than the files say:
        `mean`, `std`, `crop`, `interpolation`, `squash`.

    Raises:
      UserError: no such file, files that are damaged, of no known layout, or do not fit the model,
        or something that must be known and is not told.
    """
    weights = Weights(
        source, step=step, best=best, average=average, model=model, allow_code=allow_code
    )
    return weights.model(**overrides)


class Weights:
    """Weights that are read once, and the models made of them.

    Arguments and errors are those of `load`.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        step: int | None = None,
        best: str | bool | None = None,
        average: int = 1,
        model: nn.Module | None = None,
        allow_code: bool = False,
    ):
        self._source = source
        of_hub = str(source).startswith(PREFIX)
        path = snapshot(str(source)) if of_hub else to_path(source)
        if not path.exists():
            raise UserError(f'{path}: no such file or folder')
        self._path, self._copy = path, contextlib.ExitStack()
        self._place = self._copy.enter_context(local_copy(path))
        self._run, self._checkpoint, self._layout = None, None, None
        with self._errors():
            of_a_run = (self._place / 'checkpoints').exists()
            weights = self._place
            if weights.is_dir() and not of_a_run:
                weights = weights_in(weights)
            if weights is None or weights.is_dir():
                allowed = allow_code or (is_local(path) and not of_hub)
                with contextlib.nullcontext() if allowed else registry.refuse_code(str(source)):
                    if best is not None:
                        step = _best_step(self._place, best, step)
                    self._run = StoredRun(self._place, step, average, model)
                return
            for name, given in (('step', step), ('best', best), ('model', model)):
                if given is not None:
                    raise UserError(f'{path} is no run: it takes no {name}')
            if average != 1:
                raise UserError(f'{path} is no run: there are no {average} checkpoints to average')
            self._checkpoint = open_checkpoint(weights)
            self._layout = find_layout(self._checkpoint)

    def model(self, *, on_host: bool = False, **overrides: Any) -> Pretrained:
        """The model with these overrides, see `load`; the weights are not read again.

        With `on_host` the variables stay arrays of numpy, most of them not even copied.
        """
        with self._errors():
            return self._model(overrides, on_host)

    def _model(self, overrides: dict[str, Any], on_host: bool) -> Pretrained:
        path = self._path
        if (dtype := overrides.pop('dtype', None)) is not None:
            dtype = _checked_dtype(dtype)
        moved = overrides.pop('prefix_positions', None)
        facts = {name: overrides.pop(name) for name in PREPROCESSING if name in overrides}
        sizes = {name: value for name, value in overrides.items() if name in SIZES}
        config, step, module = None, 0, None
        if self._run is not None:
            others = {name: value for name, value in overrides.items() if name not in SIZES}
            parts, config = self._run.parts(others)
            step, module = self._run.step, self._run.model
            if module is not None and overrides:
                raise UserError(
                    f'{path}: its model is given as an object, as it is: no {min(overrides)}'
                )
        else:
            parts = read(self._layout, self._checkpoint, overrides)
        if guessed := [name for name in parts.guessed if name not in facts]:
            taken = ' and '.join(f'{name} {parts.preprocess[name]}' for name in guessed)
            said = ' and '.join(f'{name}=...' for name in guessed)
            logger.warning(
                '%s does not tell its preprocessing: taking %s; say %s when loading if they are others',
                *(path, taken, said),
            )
        if sizes:
            parts = resize(parts, sizes)
        if moved is not None:
            parts = move_prefix_positions(parts, moved)
        if facts and not isinstance(parts.preprocess, dict):
            kind = (
                'of sentences'
                if hasattr(parts.preprocess, 'tokenizer')
                else 'with inputs as they are'
            )
            raise UserError(f'{path} is a model {kind}, which has no {", ".join(facts)}')
        if facts:
            parts = dataclasses.replace(parts, preprocess=parts.preprocess | facts)
        pretrained = assemble(
            parts,
            source=str(self._source),
            layout=self._layout.name if self._layout else 'vitjax',
            config=config,
            step=step,
            dtype=dtype,
            model=module,
            on_host=on_host,
        )
        if self._run is not None and not sizes:
            pretrained.info['inputs'] = self._run.inputs
        return pretrained

    @contextlib.contextmanager
    def _errors(self):
        """Has errors name the bucket, not the copy of what is in it."""
        try:
            yield
        except UserError as error:
            if self._place == self._path or str(self._place) not in str(error):
                raise
            raise type(error)(str(error).replace(str(self._place), str(self._path))) from error


def _best_step(run: Path, best: str | bool, step: int | None) -> int:
    if step is not None:
        raise UserError('step and best are two ways to choose a checkpoint; give one of them')
    if best is True:
        config = StoredRun.read_config(run)
        best = config['checkpoint']['best']
        if not best:
            raise UserError(
                f"{run}: its config.checkpoint.best is None; say which, as best='accuracy'"
            )
    return best_step(run / 'checkpoints', best)


def assemble(
    parts: Parts,
    *,
    source: str,
    layout: str,
    config: dict[str, Any] | None = None,
    step: int = 0,
    dtype: Any = None,
    model: nn.Module | None = None,
    on_host: bool = False,
) -> Pretrained:
    """Builds the model of what was read, and puts everything together.

    Args:
      source, layout: where it comes from, for `info`.
      config: of the run; None for weights that were not trained here. Of a masked autoencoder of
        which only the encoder is left it says nothing.
      step: of the checkpoint.
      dtype: of the computation; None for the config's.
      model: the module, if it is not to be built.
      on_host: leaves the parameters where they are, in the host's memory.
    """
    if config is None or config['model']['name'] != parts.name:
        config = _config_of(parts)
    dtype = jnp.dtype(dtype or config['precision']['compute'])
    config['precision']['compute'] = dtype.name
    if model is None:
        arguments = dict(parts.arguments)
        if 'dtype' in registry.parameters(registry.find('model', parts.name)):
            arguments['dtype'] = dtype
        model = create_model(parts.name, **arguments)
    preprocess = _preprocess(source, parts, model)
    config['model'] |= parts.arguments
    if config['model'].get('num_classes', 0) is None:
        config['model']['num_classes'] = model.num_classes
    if isinstance(preprocess, Preprocess):
        config['data'] |= preprocess.facts
    params = parts.params if on_host else jax.tree.map(jnp.asarray, parts.params)
    params = unflatten_dict(params, sep='/')
    info = {'config': config, 'step': step, 'source': source, 'layout': layout}
    return Pretrained(
        model=model,
        variables={'params': params, **parts.state},
        preprocess=preprocess,
        labels=parts.labels,
        info=info | {'resampling': parts.resampling},
    )


def _checked_dtype(dtype: Any) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ('float32', 'bfloat16'):
        raise UserError(f"dtype is 'float32' or 'bfloat16', not {name!r}")
    return name


def read(layout: Layout, checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """What a layout reads of a checkpoint; UserError for what lies beside it and is damaged."""
    try:
        return layout.read(checkpoint, overrides)
    except UserError:
        raise
    # What files beside the weights say may be of any type.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{checkpoint.place}, or what lies beside it, is damaged: {one_line(error)}'
        ) from error


def _preprocess(source: str, parts: Parts, model: nn.Module) -> Preprocess | TextPreprocess | None:
    if not isinstance(parts.preprocess, dict):
        return parts.preprocess
    try:
        facts = settings_for_channels(model.in_channels, parts.preprocess)
        return Preprocess(as_pair(model.image_size), model.in_channels, **facts)
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f'{source}: it cannot preprocess by {parts.preprocess}: {error}') from error


def _config_of(parts: Parts) -> dict[str, Any]:
    """A config for a model that was not trained here: what a run's folder stores beside weights."""
    config = base_config()
    preprocess = parts.preprocess
    config.model = {'name': parts.name}
    if isinstance(preprocess, TextPreprocess):
        config.task = {'name': 'translation'}
        config.text.update(languages=preprocess.languages, max_length=preprocess.max_length)
    else:
        if parts.name == 'mae':
            config.task = {'name': 'masked_autoencoding'}
    return complete(config).to_dict()
