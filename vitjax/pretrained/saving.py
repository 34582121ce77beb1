"""Saving a trained model."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from vitjax.errors import MissingMetadataError, UserError, unknown
from vitjax.files import atomic_path, to_path, write_atomically
from vitjax.models.registry import create_model
from vitjax.pretrained.comparing import check_same
from vitjax.pretrained.export import EXPORTS
from vitjax.pretrained.files import write_tensors
from vitjax.pretrained.layouts import LAYOUTS
from vitjax.pretrained.layouts.base import Checkpoint, Layout
from vitjax.pretrained.loading import read
from vitjax.pretrained.model import Pretrained
from vitjax.pretrained.runs import write_run

# Format -> class of a model -> the layout that writes it.
WRITERS: dict[str, dict[type[nn.Module], Layout]] = {}
for _layout in LAYOUTS:
    for _format, _kind in _layout.writes.items():
        WRITERS.setdefault(_format, {})[_kind] = _layout


def save(pretrained: Pretrained, path: str | Path, format: str = 'vitjax') -> None:
    """Writes a model so that `load`, and the library of the format, read the same.

    The same function, that is: where a format has no word for something it is written as another
    model that computes the same, see `vitjax.pretrained.equivalents`.

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
        with atomic_path(path) as file:
            file.write_bytes(content)
        return
    if format == 'vitjax':
        with atomic_path(path) as folder:
            write_run(folder, pretrained)
        return
    if format not in WRITERS:
        raise unknown('format', format, ['vitjax', *WRITERS, *EXPORTS])
    kind = type(pretrained.model)
    if kind not in WRITERS[format]:
        held = ' or '.join(model.__name__ for model in WRITERS[format])
        raise UserError(f'{format} cannot hold a {kind.__name__}, only a {held}')
    layout = WRITERS[format][kind]
    alone = path.suffix == Path(layout.weights).suffix
    if layout.to_equivalent is not None:
        pretrained = layout.to_equivalent(pretrained)
    try:
        tensors, sidecars = layout.write(pretrained)
        checkpoint = Checkpoint(str(path), tensors, sidecars)
        _check_written(pretrained, layout, checkpoint)
    except UserError as error:
        raise UserError(f'{format} cannot hold this model: {error}') from error
    if alone:
        _check_alone(pretrained, layout, dataclasses.replace(checkpoint, sidecars={}))
    with atomic_path(path) as place:
        if alone:
            write_tensors(place, tensors)
            return
        place.mkdir()
        write_tensors(place / layout.weights, tensors)
        for file, value in sidecars.items():
            write_atomically(place / file, json.dumps(value, indent=2) + '\n')


def _check_written(pretrained: Pretrained, layout: Layout, checkpoint: Checkpoint) -> None:
    """Reads what is to be written; UserError if it is another model."""
    parts = read(layout, checkpoint, {})
    check_same(pretrained.model, create_model(parts.name, **parts.arguments))
    params = flatten_dict(pretrained.variables['params'], sep='/')
    for path, value in parts.params.items():
        if not np.array_equal(value, params[path]):
            raise UserError(f'{path} would come back changed')


def _check_alone(pretrained: Pretrained, layout: Layout, checkpoint: Checkpoint) -> None:
    """UserError if weights that nothing lies beside read as another model, and do not ask what is missing."""
    heads = ('num_heads', 'decoder_num_heads')
    told = {
        name: getattr(pretrained.model, name) for name in heads if hasattr(pretrained.model, name)
    }
    for overrides in ({}, told):
        try:
            parts = read(layout, checkpoint, overrides)
        except MissingMetadataError:
            continue
        try:
            check_same(pretrained.model, create_model(parts.name, **parts.arguments))
        except UserError as error:
            raise UserError(
                f'{checkpoint.place}: a file alone is not enough, write a folder: {error}'
            ) from error
