"""Cutting an image into patches of any size, putting it together again, and embedding the patches."""

from numbers import Integral

import jax
import jax.numpy as jnp
from flax import linen as nn


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or as a pair.

    >>> as_pair(16)
    (16, 16)
    """
    pair = (size, size) if isinstance(size, Integral) else tuple(size)
    if len(pair) != 2 or not all(isinstance(length, Integral) for length in pair):
        raise ValueError(f'a size is a whole number or (height, width), not {size}')
    return int(pair[0]), int(pair[1])


def grid_size(image_size: int | tuple[int, int], patch_size: int | tuple[int, int]):
    """Rows and columns (Gh, Gw) of patches; ValueError if the patches do not fill the image."""
    grid = []
    for side, length, patch in zip(
        ('height', 'width'), as_pair(image_size), as_pair(patch_size), strict=True
    ):
        if patch < 1 or length < 1 or length % patch:
            near = sorted(
                (size for size in range(1, length + 1) if length % size == 0),
                key=lambda size: abs(size - patch),
            )[:3]
            raise ValueError(
                f'patch {side} {patch} does not divide image {side} {length}; '
                f'nearest that do: {", ".join(map(str, sorted(near)))}'
            )
        grid.append(length // patch)
    return tuple(grid)


def patchify(images: jax.Array, patch_size: int | tuple[int, int]) -> jax.Array:
    """Cuts images [B, H, W, C] into patches [B, N, Ph, Pw, C], row by row."""
    batch, height, width, channels = images.shape
    rows, columns = grid_size((height, width), patch_size)
    patch = as_pair(patch_size)
    images = images.reshape(batch, rows, patch[0], columns, patch[1], channels)
    images = images.swapaxes(2, 3)  # [B, Gh, Gw, Ph, Pw, C]
    return images.reshape(batch, rows * columns, *patch, channels)


def unpatchify(patches: jax.Array, image_size: int | tuple[int, int]) -> jax.Array:
    """Puts patches [B, N, Ph, Pw, C] together to images [B, H, W, C]: the inverse of `patchify`."""
    batch, count, *patch, channels = patches.shape
    height, width = as_pair(image_size)
    rows, columns = grid_size((height, width), tuple(patch))
    if rows * columns != count:
        raise ValueError(
            f'{count} patches of {patch[0]}x{patch[1]} do not make an image of {height}x{width}: '
            f'that takes {rows * columns}'
        )
    images = patches.reshape(batch, rows, columns, *patch, channels)
    images = images.swapaxes(2, 3)  # [B, Gh, Ph, Gw, Pw, C]
    return images.reshape(batch, height, width, channels)


class PatchEmbedding(nn.Module):
    """Projects each patch to a token (Dosovitskiy et al. 2021, eq. 1).

    The parameters are those of a convolution with stride = kernel size, kernel [Ph, Pw, C, D];
    the computation is one matrix product, whose gradients are fast on every device.
    """

    patch_size: tuple[int, int]
    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """images [B, H, W, C] -> tokens [B, N, D]."""
        shape = (*self.patch_size, images.shape[-1], self.width)
        kernel = self.param('kernel', nn.initializers.lecun_normal(in_axis=(0, 1, 2)), shape)
        bias = self.param('bias', nn.initializers.zeros, (self.width,))
        patches = patchify(images.astype(self.dtype), self.patch_size)
        patches = patches.reshape(*patches.shape[:2], -1)  # [B, N, Ph * Pw * C]
        kernel = kernel.reshape(-1, self.width).astype(self.dtype)
        return patches @ kernel + bias.astype(self.dtype)  # [B, N, D]
