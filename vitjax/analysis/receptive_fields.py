"""The part of the image that a unit can see, and the part of it that matters."""

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
    """What the units of a layer see of the image; pairs are (height, width), in pixels.

    Attributes:
      name: of the layer.
      size: of the theoretical field, which may exceed the image; where a unit sees the whole map,
        the size of the image.
      stride: from a unit to the next.
      offset: centre of the first unit's field; 0 is the centre of the first pixel. Where units see
        the whole map, stride and offset are still those of the places they stand for.
      effective: [H, W] float32, how much the centre unit depends on each pixel; at most 1.
      effective_size: side of a square of as many pixels as the effective field counts.
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
    """Receptive fields of the layers of an image model, from the image on.

    Size, stride and offset follow from the windows that lead to a layer (Araujo et al. 2019,
    "Computing Receptive Fields of Convolutional Neural Networks", section "Single-path networks"),
    padded as XLA does for 'SAME'. Statistics that a norm takes over the map (GroupNorm) see all of
    it; as in the literature, the size leaves them out.

    With variables and images [B, H, W, C], normalised as the model takes them, the layers that
    `features` returns as `blocks` have an effective field too (Luo et al. 2016, sections 2 and 3):
    a gradient of 1 in every channel of the centre unit, in row H_i // 2 and column W_i // 2, and of
    0 elsewhere is sent back to the image; the field is its absolute value, averaged over images and
    channels and divided by its maximum. It counts the pixels of at least 1 - 95.45 % (in the paper,
    of the value at the centre; here, of the maximum). A unit without gradient has a field of zeros.
    All images are held in memory at once, as in a step of training.

    Raises:
      ValueError: one of variables and images without the other, or a model without the methods `windows`
        and, for effective fields, `features` (see `vitjax.protocols`).
    """
    check_abilities(model, 'receptive_field', ['windows'])
    if (variables is None) != (images is None):
        raise ValueError('an effective receptive field takes both variables and images')
    if images is None:
        check_abilities(model, 'receptive_field', [], ['image_size'])
    else:
        check_abilities(model, 'receptive_field', ['features'])
    image_size = as_pair(model.image_size if images is None else images.shape[1:3])
    fields, grids = _theoretical(model.windows(), image_size)
    if images is None:
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
    """Name -> windows of each layer -> their fields, and rows and columns of their maps."""
    size, stride, offset, grid = np.ones(2, int), np.ones(2, int), np.zeros(2), np.array(image_size)
    sees_all = False
    fields, grids = [], []
    for name, windows in layers.items():
        for window in windows:
            sees_all = sees_all or window.kernel is None
            kernel, step = np.array(window.kernel or (1, 1)), np.array(window.stride)
            outputs = -(-grid // step)
            padding = np.maximum((outputs - 1) * step + kernel - grid, 0)
            offset = offset + ((kernel - 1) / 2 - padding // 2) * stride  # the odd one comes last
            size = size + (kernel - 1) * stride
            stride = stride * step
            grid = outputs
        seen = image_size if sees_all else tuple(size.tolist())
        fields.append(ReceptiveField(name, seen, tuple(stride.tolist()), tuple(offset.tolist())))
        grids.append(tuple(grid.tolist()))
    return fields, grids


def _effective(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: jax.Array,
    grids: Sequence[tuple[int, int]],
) -> np.ndarray:
    """Effective fields [L, H, W] of the blocks, whose maps are the last L of the grids."""

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
            # One pass for whichever layer: a pass of its own for each would be compiled L times.
            wanted = [jnp.where(layer == i, centre, 0) for i, centre in enumerate(centres)]
            (gradient,) = pull_back(tuple(wanted))
            return jnp.abs(gradient).mean(axis=(0, 3))  # [H, W]

        return jax.lax.map(gradient_of, jnp.arange(len(centres)))

    fields = np.asarray(gradients(variables, jnp.asarray(images, jnp.float32)))
    peaks = fields.max(axis=(1, 2), keepdims=True)
    return fields / np.where(peaks > 0, peaks, 1)


def _centre(block: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """1 at the centre unit of a map [B, H, W, C] or of tokens [B, P + N, D], 0 elsewhere."""
    rows, columns = grid
    units = jnp.zeros_like(block).reshape(block.shape[0], -1, block.shape[-1])  # [B, P + N, D]
    prefix = units.shape[1] - rows * columns
    centre = prefix + rows // 2 * columns + columns // 2
    return units.at[:, centre].set(1).reshape(block.shape)
