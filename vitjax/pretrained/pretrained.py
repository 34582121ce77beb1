"""A trained model with all that its use takes; loading it from anywhere, and saving it."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax.config import PREPROCESSING, base_config, complete
from vitjax.data.preprocess import Preprocess, facts_for
from vitjax.data.text import TextPreprocess
from vitjax.errors import Untold, UserError, one_line, unknown
from vitjax.files import to_path, write_atomically, written_whole
from vitjax.layers.patches import as_pair
from vitjax.models.mae import MAE
from vitjax.models.registry import create_model
from vitjax.models.vit import ViT
from vitjax.pretrained.comparing import check_same
from vitjax.pretrained.export import EXPORTS
from vitjax.pretrained.files import weights_in, write_tensors
from vitjax.pretrained.hub import PREFIX, at_hand, snapshot
from vitjax.pretrained.layouts import (
    SIZES,
    Checkpoint,
    Parts,
    find_layout,
    layout,
    open_checkpoint,
)
from vitjax.pretrained.resize import move_prefix_positions, resize
from vitjax.pretrained.runs import read_run, write_run

logger = logging.getLogger(__name__)

# Format -> the models that it holds, each with the layout that writes it.
WRITERS = {
    'google': {ViT: 'google'},
    'huggingface': {ViT: 'huggingface', MAE: 'mae'},
    'timm': {ViT: 'timm'},
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model, its weights and what surrounds it.

    Attributes:
      model: the Flax module.
      variables: what `model.apply` takes: {'params': ...} and other collections, if it has any.
      preprocess: images (paths, PIL, uint8 arrays) -> [B, H, W, C] float32, as the model takes them;
        of a translation model, texts -> tokens and mask [B, S], see `TextPreprocess`.
      labels: names of the classes, None if unknown.
      info: the config of its training (`config`), the step, the source, its layout, and how its
        family resamples positions (`resampling`).
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocess: Preprocess | TextPreprocess
    labels: tuple[str, ...] | None
    info: dict[str, Any]


def load(source: str | Path, **overrides) -> Pretrained:
    """Loads a trained model, whatever wrote it.

    Args:
      source: a run's folder, or a file or folder of weights of any layout in `layouts.LAYOUTS`, here or
        in a bucket (gs://...), or `hf:owner/name[@revision]`, see `vitjax.pretrained.hub`.
      overrides: constructor arguments of the model. With another `image_size`, `patch_size`,
        `in_channels`, `num_classes` or `prefix_positions` the weights are adapted, see
        `vitjax.pretrained.resize`. Others say what the files do not tell, such as `num_heads`, or are
        switches such as `scan`, `dtype`. Also what of `Preprocess` is other than the files say:
        `mean`, `std`, `crop`, `interpolation`, `squash`.
        Of a run's folder, `average=N` takes the mean of the newest N checkpoints (Vaswani et al.
        2017, section 6.1).

    Raises:
      UserError: no such file, files that are damaged, of no known layout, or do not fit the model,
        or something that must be known and is not told.
    """
    path = snapshot(source) if str(source).startswith(PREFIX) else to_path(source)
    if not path.exists():
        raise UserError(f'{path}: no such file or folder')
    dtype, average = overrides.pop('dtype', None), overrides.pop('average', 1)
    if dtype is not None:
        dtype = _checked_dtype(dtype)
    moved = overrides.pop('prefix_positions', None)
    facts = {name: overrides.pop(name) for name in PREPROCESSING if name in overrides}
    sizes = {name: value for name, value in overrides.items() if name in SIZES}
    with at_hand(path) as place:
        of_a_run = (place / 'checkpoints').exists()
        weights = weights_in(place) if place.is_dir() and not of_a_run else place
        if weights is None or weights.is_dir():
            others = {name: value for name, value in overrides.items() if name not in SIZES}
            parts, config, step = read_run(place, others, average)
            name = 'vitjax'
        else:
            if average != 1:
                raise UserError(f'{path} is no run: there are no {average} checkpoints to average')
            checkpoint = open_checkpoint(weights)
            name = find_layout(checkpoint)
            parts, config, step = _read(name, checkpoint, overrides), None, 0
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
    if facts and isinstance(parts.preprocess, TextPreprocess):
        raise UserError(f'{path} is a model of sentences, which has no {", ".join(facts)}')
    if facts:
        parts = dataclasses.replace(parts, preprocess=parts.preprocess | facts)
    return assemble(parts, source=str(source), layout=name, config=config, step=step, dtype=dtype)


def assemble(
    parts: Parts,
    *,
    source: str,
    layout: str,
    config: dict[str, Any] | None = None,
    step: int = 0,
    dtype: Any = None,
) -> Pretrained:
    """Builds the model of what was read, and puts everything together.

    Args:
      source, layout: where it comes from, for `info`.
      config: of the run; None for weights that were not trained here. Of a masked autoencoder of
        which only the encoder is left it says nothing.
      step: of the checkpoint.
      dtype: of the computation; None for the config's.
    """
    preprocess = _preprocess(source, parts)
    if config is None or config['model']['name'] != parts.name:
        config = _config_of(parts, preprocess)
    dtype = jnp.dtype(dtype or config['precision']['compute'])
    config['precision']['compute'] = dtype.name
    config['model'] |= parts.arguments
    if isinstance(preprocess, Preprocess):
        config['data'] |= preprocess.facts
    params = unflatten_dict(jax.tree.map(jnp.asarray, parts.params), sep='/')
    info = {'config': config, 'step': step, 'source': source, 'layout': layout}
    return Pretrained(
        model=create_model(parts.name, **parts.arguments, dtype=dtype),
        variables={'params': params, **parts.state},
        preprocess=preprocess,
        labels=parts.labels,
        info=info | {'resampling': parts.resampling},
    )


def save(pretrained: Pretrained, path: str | Path, format: str = 'vitjax') -> None:
    """Writes a model so that `load`, and the library of the format, read the same.

    The same function, that is: where a format has no word for something it is written as another
    model that computes the same, see `vitjax.pretrained.restating`.

    What is exported, in contrast, runs without any library of models, see `vitjax.pretrained.export`.

    Args:
      path: a folder that does not exist yet or is empty. For foreign formats also a file with the
        ending of their weights, which then lacks what lies beside them: labels, preprocessing. For
        an export a file.
      format: 'vitjax', the layout of a run's folder, one of `WRITERS`, or 'stablehlo' or 'onnx'.

    Raises:
      UserError: an unknown format, one that cannot hold the model, or a path that is in use.
      RunError: the disk does not take it; then nothing is left of it.
    """
    path = to_path(path)
    if format in EXPORTS:
        content = EXPORTS[format](pretrained)
        with written_whole(path) as file:
            file.write_bytes(content)
        return
    if format == 'vitjax':
        with written_whole(path) as folder:
            write_run(folder, pretrained)
        return
    if format not in WRITERS:
        raise unknown('format', format, ['vitjax', *WRITERS, *EXPORTS])
    kind = type(pretrained.model)
    if kind not in WRITERS[format]:
        held = ' or '.join(model.__name__ for model in WRITERS[format])
        raise UserError(f'{format} cannot hold a {kind.__name__}, only a {held}')
    name = WRITERS[format][kind]
    writer = layout(name)
    weights = Path(writer.WEIGHTS)
    alone = path.suffix == weights.suffix
    if hasattr(writer, 'restated'):
        pretrained = writer.restated(pretrained)
    try:
        tensors, sidecars = writer.write(pretrained)
        checkpoint = Checkpoint(str(path), tensors, sidecars)
        _check_written(pretrained, name, checkpoint)
    except UserError as error:
        raise UserError(f'{format} cannot hold this model: {error}') from error
    if alone:
        _check_alone(pretrained, name, dataclasses.replace(checkpoint, sidecars={}))
    with written_whole(path) as place:
        if alone:
            write_tensors(place, tensors)
            return
        place.mkdir()
        write_tensors(place / weights, tensors)
        for file, value in sidecars.items():
            write_atomically(place / file, json.dumps(value, indent=2) + '\n')


def _checked_dtype(dtype: Any) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ('float32', 'bfloat16'):
        raise UserError(f"dtype is 'float32' or 'bfloat16', not {name!r}")
    return name


def _read(name: str, checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    try:
        return layout(name).read(checkpoint, overrides)
    except UserError:
        raise
    # What files beside the weights say may be of any type.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{checkpoint.place}, or what lies beside it, is damaged: {one_line(error)}'
        ) from error


def _check_written(pretrained: Pretrained, name: str, checkpoint: Checkpoint) -> None:
    """Reads what is to be written; UserError if it is another model."""
    parts = _read(name, checkpoint, {})
    check_same(pretrained.model, create_model(parts.name, **parts.arguments))
    params = flatten_dict(pretrained.variables['params'], sep='/')
    for path, value in parts.params.items():
        if not np.array_equal(value, params[path]):
            raise UserError(f'{path} would come back changed')


def _check_alone(pretrained: Pretrained, name: str, checkpoint: Checkpoint) -> None:
    """UserError if weights that nothing lies beside read as another model, and do not ask what is missing."""
    heads = ('num_heads', 'decoder_num_heads')
    told = {
        name: getattr(pretrained.model, name) for name in heads if hasattr(pretrained.model, name)
    }
    for overrides in ({}, told):
        try:
            parts = _read(name, checkpoint, overrides)
        except Untold:
            continue
        try:
            check_same(pretrained.model, create_model(parts.name, **parts.arguments))
        except UserError as error:
            raise UserError(
                f'{checkpoint.place}: a file alone is not enough, write a folder: {error}'
            ) from error


def _preprocess(source: str, parts: Parts) -> Preprocess | TextPreprocess:
    if isinstance(parts.preprocess, TextPreprocess):
        return parts.preprocess
    model = create_model(parts.name, **parts.arguments)
    try:
        facts = facts_for(model.in_channels, parts.preprocess)
        return Preprocess(as_pair(model.image_size), model.in_channels, **facts)
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f'{source}: it cannot preprocess by {parts.preprocess}: {error}') from error


def _config_of(parts: Parts, preprocess: Preprocess) -> dict[str, Any]:
    """A config for a model that was not trained here: what a run's folder stores beside weights."""
    config = base_config()
    config.model = {'name': parts.name}
    if isinstance(preprocess, TextPreprocess):
        config.task = {'name': 'translation'}
        config.text.update(languages=preprocess.languages, max_length=preprocess.max_length)
    else:
        if parts.name == 'mae':
            config.task = {'name': 'masked_autoencoding'}
    config.steps = 1
    return complete(config).to_dict()
