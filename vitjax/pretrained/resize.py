"""Fitting what was read to another image size, patch size, number of channels or of classes."""

import dataclasses
import logging
from typing import Any

import numpy as np

from vitjax.config import signature
from vitjax.errors import UserError
from vitjax.layers.patches import grid_size, resample_kernel
from vitjax.layers.resampling import resample
from vitjax.models.registry import create_model
from vitjax.pretrained.equivalents import add_rows
from vitjax.pretrained.layouts.base import Parts, as_argument, parameter_shapes
from vitjax.protocols import HasEncoder

_FIRST_KERNELS = ('backbone/root/convolution/kernel', 'patch_embedding/kernel')


def resize(parts: Parts, wanted: dict[str, Any]) -> Parts:
    """Adapts weights to other sizes; what they ask for and have already changes nothing.

    Learned positions are resampled as the family does it, fixed ones computed; the kernel of the patches
    is by the pseudo-inverse (Beyer et al. 2023); that of RGB images is summed for gray ones, which gives
    what three equal channels gave, but for hybrids, whose filters are standardised: there it is a start
    for fine-tuning; a head for other classes starts at zero. A masked autoencoder that
    is asked for classes is left with its encoder.

    Args:
      parts: as a layout or a run's folder gives them.
      wanted: any of `image_size`, `patch_size`, `in_channels`, `num_classes`.

    Raises:
      UserError: sizes that do not fit together, or channels that cannot be had.
    """
    wanted = {name: as_argument(name, value) for name, value in wanted.items()}
    old = create_model(parts.name, **parts.arguments)
    if isinstance(old, HasEncoder):
        if 'num_classes' not in wanted:
            return _at_another_image_size(parts, old, wanted)
        parts = _encoder(parts, old)
        old = create_model(parts.name, **parts.arguments)
    arguments = parts.arguments | wanted
    new = create_model(parts.name, **arguments)
    shapes = parameter_shapes(parts.name, arguments)
    params = dict(parts.params)
    if old.in_channels != new.in_channels:
        _fold_channels(params, old.in_channels, new.in_channels)
    kernel = params.get('patch_embedding/kernel')
    if kernel is not None and (patch := shapes['patch_embedding/kernel'][:2]) != kernel.shape[:2]:
        params['patch_embedding/kernel'] = np.asarray(resample_kernel(kernel, patch))
    if 'positions' in params:
        params['positions'] = _on_another_grid(params['positions'], old, new, parts.resampling)
    labels = parts.labels
    if old.num_classes != new.num_classes:
        labels = None
        params = {path: x for path, x in params.items() if not _is_head(path)}
        head = {
            path: np.zeros(shape, np.float32)
            for path, shape in shapes.items()
            if path not in params
        }
        params |= head
        if head and old.num_classes:
            logging.getLogger(__name__).warning(
                'the head for %d classes is left out; a new one for %d starts at zero',
                old.num_classes,
                new.num_classes,
            )
    return dataclasses.replace(parts, arguments=arguments, params=params, labels=labels)


def _at_another_image_size(parts: Parts, model: HasEncoder, wanted: dict[str, Any]) -> Parts:
    """All of a masked autoencoder; UserError if its decoder would have to predict other patches."""
    for name in ('patch_size', 'in_channels'):
        if name in wanted and wanted[name] != as_argument(name, getattr(model, name)):
            raise UserError(
                f'{parts.name}: its decoder predicts patches as they are, only the encoder takes '
                f'another {name}; say num_classes too'
            )
    return dataclasses.replace(parts, arguments=parts.arguments | wanted)


def _encoder(parts: Parts, model: HasEncoder) -> Parts:
    """The encoder as He et al. 2022 fine-tune it: the mean of the patches is normalised."""
    encoder = model.encoder()
    arguments = {name: getattr(encoder, name) for name in signature(type(encoder), ('dtype',))}
    arguments |= {'pooling': 'mean', 'class_token': True, 'norm_after_pooling': True}
    params = {
        path.removeprefix('vit/'): value
        for path, value in parts.params.items()
        if path.startswith('vit/')
    }
    return dataclasses.replace(parts, name='vit', arguments=arguments, params=params, labels=None)


def move_prefix_positions(parts: Parts, wanted: str) -> Parts:
    """The same model with the positions of the tokens before the patches kept in another way.

    Libraries differ in which of these tokens have a position of their own. What counts is the sum of
    token and position: 'none' adds them up; from there any other adds positions of 0.

    Args:
      parts: as a layout or a run's folder gives them.
      wanted: as the constructor takes `prefix_positions`.

    Raises:
      UserError: another kind of model, or positions that would be lost.
    """
    old = create_model(parts.name, **parts.arguments)
    arguments = parts.arguments | {'prefix_positions': wanted}
    new = create_model(parts.name, **arguments)
    params = dict(parts.params)
    if old.num_placed and new.num_placed < old.num_placed and new.num_placed:
        raise UserError("prefix_positions='class' would lose those of registers; say 'none'")
    if 'positions' in params and not new.num_placed:
        before, params['positions'] = np.split(params['positions'], [old.num_placed], axis=1)
        for name, count in old.prefix.items():
            own, before = np.split(before, [count], axis=1)
            if own.size:
                params[name] = params[name] + own
    elif 'positions' in params:
        params['positions'] = add_rows(params['positions'], old, new)
    return dataclasses.replace(parts, arguments=arguments, params=params)


def _is_head(path: str) -> bool:
    return path.split('/')[0].endswith('head')


def _fold_channels(params: dict[str, np.ndarray], old: int, new: int) -> None:
    if (old, new) != (3, 1):
        raise UserError(
            f'in_channels={new}: the weights are for {old} channels, and only RGB can become gray'
        )
    first = next((path for path in _FIRST_KERNELS if path in params), None)
    if first is None:
        raise UserError(f'in_channels={new}: the first filters of this model cannot be summed')
    params[first] = np.asarray(params[first]).sum(axis=2, keepdims=True)  # [Ph, Pw, 1, D]


def _on_another_grid(table: np.ndarray, old: Any, new: Any, method: str) -> np.ndarray:
    """[1, P + N, D] -> [1, P + N', D]: what stands before the patches stays."""
    grids = [grid_size(model.image_size, model.patch_size, pad=model.pad) for model in (old, new)]
    before, of_patches = np.split(table, [table.shape[1] - grids[0][0] * grids[0][1]], axis=1)
    return np.concatenate([before, np.asarray(resample(of_patches, *grids, method))], axis=1)
