"""Theoretical and effective receptive fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.analysis.abilities import check_abilities
from vitjax.layers.patches import as_pair


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of the units of a layer; pairs are (height, width) in pixels.

    Attributes:
      name: of the layer.
      size: of the theoretical field, which may exceed the image. If units depend on the whole feature map,
        it is the size of the image.
      stride: distance between the fields of neighbouring units.
      offset: centre of the first unit's field; 0 is the centre of the first pixel. If units depend on the
        whole feature map, stride and offset are those of their positions.
      effective: [H, W] float32, dependence of the centre unit on each pixel, at most 1.
      effective_size: square root of the number of pixels in the effective field.
    """

    name: str
    size: tuple[int, int]
    stride: tuple[int, int]
    offset: tuple[float, float]
    effective: np.ndarray | None = None
    effective_size: float | None = None


def receptive_field(
    model: nn.Module, variables: Mapping[str, Any] | None = None, images: jax.Array | None = None
) -> list[ReceptiveField]:
    """Receptive fields of the layers of an image model, in their order.

    Size, stride and offset are computed from the windows of the layers (Araujo et al. 2019,
    "Computing Receptive Fields of Convolutional Neural Networks", section "Single-path networks"),
    padded as XLA does for 'SAME'. The statistics of GroupNorm depend on the whole feature map; as in the
    literature, the size ignores them.

    With variables and images [B, H, W, C], normalised as the model takes them, the layers that
    `features` returns as `blocks` also have an effective field (Luo et al. 2016, sections 2 and 3). A
    gradient of 1 in every channel of the centre unit (row H_i // 2, column W_i // 2) and 0 elsewhere is
    propagated back to the image; the field is its absolute value, averaged over images and channels and
    divided by its maximum. Pixels with a value of at least 1 - 95.45 % are in the field (in the paper, of the
    value at the centre; here, of the maximum). A unit without gradient has a field of zeros. All images are
    in memory at once, as in a train step.

    Raises:
      ValueError: only one of variables and images is given, or the model lacks the method `windows` or, for
        effective fields, `features` (see `vitjax.protocols`).
    """
    check_abilities(model, 'receptive_field', ['windows'])
    if (variables is None) != (images is None):
        raise ValueError('an effective receptive field needs both variables and images')
    if images is None:
        check_abilities(model, 'receptive_field', [], ['image_size'])
    else:
        check_abilities(model, 'receptive_field', ['features'])
    size: Any = model.image_size if images is None else images.shape[1:3]
    image_size = as_pair(size)
    fields, grids = _theoretical(model.windows(), image_size)
    if variables is None or images is None:
        return fields
    effective = _effective(model, variables, images, grids)  # [L, H, W]
    before = len(fields) - len(effective)
    return fields[:before] + [
        replace(entry, effective=field, effective_size=float(np.sum(field >= 1 - 0.9545) ** 0.5))
        for entry, field in zip(fields[before:], effective, strict=True)
    ]


def _theoretical(
    layers: Mapping[str, Sequence], image_size: tuple[int, int]
) -> tuple[list[ReceptiveField], list[tuple[int, int]]]:
    """Theoretical fields and grids (rows, columns) of layers, from the windows of each layer by name."""
    size, stride, offset, grid = np.ones(2, int), np.ones(2, int), np.zeros(2), np.array(image_size)
    sees_all = False
    fields, grids = [], []
    for name, windows in layers.items():
        for window in windows:
            sees_all = sees_all or window.kernel is None
            kernel, step = np.array(window.kernel or (1, 1)), np.array(window.stride)
            outputs = -(-grid // step)
            padding = np.maximum((outputs - 1) * step + kernel - grid, 0)
            # Of an odd padding, the larger half is at the end.
            offset = offset + ((kernel - 1) / 2 - padding // 2) * stride
            size = size + (kernel - 1) * stride
            stride = stride * step
            grid = outputs
        seen = image_size if sees_all else _pair(size)
        fields.append(ReceptiveField(name, seen, _pair(stride), _pair(offset)))
        grids.append(_pair(grid))
    return fields, grids


def _pair(values: np.ndarray) -> tuple[Any, Any]:
    """An array of two values as numbers of Python."""
    first, second = values.tolist()
    return first, second


def _effective(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: jax.Array,
    grids: Sequence[tuple[int, int]],
) -> np.ndarray:
    """Effective fields [L, H, W] of the L blocks; the last L grids are the rows and columns of their maps."""

    @jax.jit
    def gradients(variables, images):
        def blocks(images):
            return model.apply(variables, images, method='features')['blocks']

        outputs, pull_back = jax.vjp(blocks, images)
        centres = [
            _centre(output, grid)
            for output, grid in zip(outputs, grids[-len(outputs) :], strict=True)
        ]

        def gradient_of(layer):
            # One backward pass with a selected layer, because L different passes would be compiled L times.
            cotangents = [jnp.where(layer == i, centre, 0) for i, centre in enumerate(centres)]
            (gradient,) = pull_back(tuple(cotangents))
            return jnp.abs(gradient).mean(axis=(0, 3))  # [H, W]

        return jax.lax.map(gradient_of, jnp.arange(len(centres)))

    fields = np.asarray(gradients(variables, jnp.asarray(images, jnp.float32)))
    peaks = fields.max(axis=(1, 2), keepdims=True)
    return fields / np.where(peaks > 0, peaks, 1)


def _centre(block: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """An array of zeros, with ones at the centre unit of a map [B, H, W, C] or of tokens [B, P + N, D]."""
    rows, columns = grid
    units = jnp.zeros_like(block).reshape(block.shape[0], -1, block.shape[-1])  # [B, P + N, D]
    prefix = units.shape[1] - rows * columns
    centre = prefix + rows // 2 * columns + columns // 2
    return units.at[:, centre].set(1).reshape(block.shape)
