"""What the layouts of PyTorch's Vision Transformers have in common."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.layers.patches import grid_size
from vitjax.pretrained.layouts.base import Checkpoint, check_grid, guess_image
from vitjax.pretrained.layouts.names import (
    CONVOLUTION,
    DENSE,
    MERGE_HEADS,
    SPLIT_HEADS,
    SPLIT_HEADS_BIAS,
    Row,
)

IMAGENET = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}


def dense(theirs: str, *ours: str, kernel: str = DENSE, bias: str = '') -> list[Row]:
    """Rows of a linear layer; of several of ours, if theirs is all of them one after another."""
    return [
        Row(f'{theirs}.weight', tuple(f'{name}/kernel' for name in ours), kernel),
        Row(f'{theirs}.bias', tuple(f'{name}/bias' for name in ours), bias),
    ]


def convolution(theirs: str, ours: str) -> list[Row]:
    """Rows of a convolution."""
    return dense(theirs, ours, kernel=CONVOLUTION)


def norm(theirs: str, ours: str) -> list[Row]:
    """Rows of a LayerNorm."""
    return [Row(f'{theirs}.weight', f'{ours}/scale'), Row(f'{theirs}.bias', f'{ours}/bias')]


def attention(ours: str, inputs: Mapping[str, tuple[str, ...]], out: str) -> list[Row]:
    """Rows of a `MultiHeadAttention`.

    Args:
      inputs: their layer -> which of 'query', 'key' and 'value' it is.
      out: their layer of the output.
    """
    rows = dense(out, f'{ours}/out', kernel=MERGE_HEADS)
    for theirs, parts in inputs.items():
        names = (f'{ours}/{part}' for part in parts)
        rows += dense(theirs, *names, kernel=SPLIT_HEADS, bias=SPLIT_HEADS_BIAS)
    return rows


def find_grid(
    checkpoint: Checkpoint, arguments: dict[str, Any], rows: int, placed: Mapping[str, int]
) -> None:
    """Finds out which tokens before the patches have a position, and puts it in the arguments.

    Args:
      arguments: with `image_size` and `patch_size`.
      rows: of the table of positions.
      placed: `prefix_positions` -> so many tokens.

    Raises:
      UserError: there are too many positions for the image, or too few.
    """
    image, patch = arguments['image_size'], arguments['patch_size']
    for name, count in placed.items():
        if np.prod(grid_size(image, patch, pad=True)) == rows - count:
            arguments['prefix_positions'] = name
            return
    check_grid(checkpoint, arguments, rows - next(iter(placed.values())))


def guess_size(
    rows: int, placed: Mapping[str, int], patch: tuple[int, int], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """`guess_image` of the positions, less those before the patches."""
    counts = (rows - count for count in placed.values() if rows > count)
    sizes = (guess_image(count, patch, overrides) for count in counts)
    return next((size for size in sizes if size), {})
