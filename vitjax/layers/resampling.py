"""Resampling of patch positions to another grid, by each published method.

A model on another grid than that of its training reproduces its authors' results only with its
authors' method. The methods differ by up to the magnitude of the position values.

    method            kernel           used by
    cubic_antialias   cubic, a = -0.5  timm; DINOv2 with registers, at Meta and in Hugging Face
    cubic             cubic, a = -0.75 Hugging Face: ViT, DeiT, MAE, DINOv2
    cubic_offset      cubic, a = -0.75 Meta: DINO, DINOv2 without registers
    linear            triangle         timm for Google's .npz files; big_vision for FlexiViT's kernels
    linear_antialias  triangle         big_vision for FlexiViT's positions
    linear_corners    triangle         vit_jax and big_vision, by scipy.ndimage.zoom
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vitjax.layers.arrays import Array
from vitjax.layers.choices import check_choice


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Cubic convolution (Keys 1981, where a = -0.5)."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'cubic_antialias': partial(_cubic, a=-0.5),
    'cubic': partial(_cubic, a=-0.75),
    'cubic_offset': partial(_cubic, a=-0.75),
    'linear': _linear,
    'linear_antialias': _linear,
    'linear_corners': _linear,
}


def resize_matrix(old: int, new: int, method: str) -> Float[np.ndarray, '{new} {old}']:
    """The matrix that resizes one axis; its rows sum to 1.

    Pixel centres are at half-integers: the first new pixel is at 0.5 * old / new. Two methods differ:
    'linear_corners' aligns the first and the last pixels; 'cubic_offset' uses `new + 0.1` in place of `new`,
    so it changes values even at the same length. At the border an antialiased kernel is cut and
    renormalised; for the other kernels the border pixel is repeated.

    Args:
      old, new: lengths.
      method: a name in the table above.

    Returns:
      Matrix, float64.
    """
    check_choice('method', method, KERNELS)
    if old < 1 or new < 1:
        raise ValueError(f'lengths must be at least 1, not {old} and {new}')
    place = np.arange(new)
    if method == 'linear_corners':
        centre = place * ((old - 1) / max(new - 1, 1))
    else:
        centre = (place + 0.5) * old / (new + 0.1 * (method == 'cubic_offset')) - 0.5
    antialias = method.endswith('antialias')
    stretch = max(old / new, 1) if antialias else 1
    distance = np.abs(centre[:, None] - np.arange(-2, old + 2)) / stretch
    before, weights, after = np.split(KERNELS[method](distance), [2, old + 2], axis=1)
    if not antialias:
        weights[:, 0] += before.sum(1)
        weights[:, -1] += after.sum(1)
    return weights / weights.sum(1, keepdims=True)


def resample(
    table: Float[Array, '... N D'],
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    method: str,
) -> Float[Array, '... N2 D']:
    """Resamples a table of patch positions to another grid.

    For the same grid the table is returned unchanged (also with 'cubic_offset', as in Meta's code).
    'linear_corners' equals scipy.ndimage.zoom except at a few lengths (16 to 30, 28 to 14), where
    rounding errors make scipy put zeros in the last row and column.

    Args:
      table: [..., N, D], row by row, without class token or other prefix.
      old_grid, new_grid: rows and columns (Gh, Gw).
      method: a name in the table above.

    Returns:
      [..., N', D] in the dtype of the table, computed in float32.
    """
    *batch, patches, width = table.shape
    if patches != old_grid[0] * old_grid[1]:
        raise ValueError(
            f'a table of {patches} positions is not one of a grid of {old_grid[0]}x{old_grid[1]}'
        )
    rows, columns = (resize_matrix(*axis, method) for axis in zip(old_grid, new_grid, strict=True))
    if tuple(old_grid) == tuple(new_grid):
        return table
    resampled = jnp.einsum(
        'yr,xc,...rcd->...yxd',
        rows.astype(np.float32),
        columns.astype(np.float32),
        table.reshape(*batch, *old_grid, width),
        precision='highest',
    )  # [..., Gh', Gw', D]
    return resampled.reshape(*batch, -1, width).astype(table.dtype)
