"""The same function said as another model, which a layout has the words for.

What is saved so reads as that other model; from there on saving and loading is exact to the bit.
"""

import dataclasses

import numpy as np

from vitjax.layers.patches import grid_size
from vitjax.layers.positions import FIXED
from vitjax.models.vit import ViT
from vitjax.pretrained.model import Pretrained

# Positions -> their table, as in `FIXED`.
_TABLES = FIXED | {'none': lambda grid, width: np.zeros((grid[0] * grid[1], width), np.float32)}


def with_position_table(pretrained: Pretrained, placed: str) -> Pretrained:
    """A `ViT` with positions as learned ones are stored; tokens that had none get one of 0.

    Args:
      placed: the `prefix_positions` that it is to have.

    Returns:
      The same as it was where there is no such table, or positions would be lost.
    """
    model = pretrained.model
    held = model.clone(positions='learned', prefix_positions=placed)
    if model.positions in _TABLES:
        grid = grid_size(model.image_size, model.patch_size, pad=model.pad)
        table = position_table(model.positions, grid, model.width, held.num_placed)
    elif model.positions == 'learned' and held.num_placed > model.num_placed:
        table = add_rows(pretrained.variables['params']['positions'], model, held)
    else:
        return pretrained
    return _equivalent(pretrained, held, positions=table)


def with_head_on_mean_too(pretrained: Pretrained) -> Pretrained:
    """A `ViT` whose head sees the class token, as one that sees the patches' mean beside it, times 0."""
    head = pretrained.variables['params']['head']
    kernel = np.pad(head['kernel'], ((0, pretrained.model.width), (0, 0)))  # [2D, K]
    return _equivalent(
        pretrained, pretrained.model.clone(pooling='cls_mean'), head=head | {'kernel': kernel}
    )


def position_table(
    positions: str, grid: tuple[int, int], width: int, num_placed: int
) -> np.ndarray:
    """Positions that nothing learned, [1, P + N, D] float32, after those of P tokens: 0."""
    table = np.asarray(_TABLES[positions](grid, width))
    return np.pad(table, ((num_placed, 0), (0, 0)))[None]


def add_rows(table: np.ndarray, old: ViT, new: ViT) -> np.ndarray:
    """A table of positions [1, P + N, D] with one of 0 for each token before the patches that had none."""
    added = np.zeros((1, new.num_placed - old.num_placed, old.width), np.float32)
    before, of_patches = np.split(np.asarray(table), [old.num_placed], axis=1)
    return np.concatenate([before, added, of_patches], axis=1)


def _equivalent(pretrained: Pretrained, model: ViT, **params) -> Pretrained:
    variables = pretrained.variables | {'params': pretrained.variables['params'] | params}
    return dataclasses.replace(pretrained, model=model, variables=variables)
