"""Cutting an image into patches of any size, putting it together again, and embedding the patches."""

from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.layers.resampling import resize_matrix


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or as a pair.

    >>> as_pair(16)
    (16, 16)
    """
    pair = (size, size) if isinstance(size, Integral) else tuple(size)
    if len(pair) != 2 or not all(isinstance(length, Integral) for length in pair):
        raise ValueError(f'a size is a whole number or (height, width), not {size}')
    return int(pair[0]), int(pair[1])


def nearest_multiples(size: int, step: int) -> str:
    """The multiples of a step on both sides of a size, in words.

    >>> nearest_multiples(224, 15)
    '210 or 225'
    """
    below = size // step * step
    return ' or '.join(str(multiple) for multiple in (below, below + step) if multiple)


def grid_size(
    image_size: int | tuple[int, int], patch_size: int | tuple[int, int], *, pad: bool = False
) -> tuple[int, int]:
    """Rows and columns (Gh, Gw) of patches.

    Patches that do not fill the image are a ValueError that names the nearest patches and images
    that fit; with `pad=True` the outer patches reach beyond the image.
    """
    grid = []
    for side, length, patch in zip(
        ('height', 'width'), as_pair(image_size), as_pair(patch_size), strict=True
    ):
        for what, size in (('image', length), ('patch', patch)):
            if size < 1:
                raise ValueError(f'{what} {side} must be at least 1, not {size}')
        if length % patch and not pad:
            near = sorted(
                (size for size in range(1, length + 1) if length % size == 0),
                key=lambda size: abs(size - patch),
            )[:3]
            raise ValueError(
                f'patch {side} {patch} does not divide image {side} {length}; '
                f'nearest that do: {", ".join(map(str, sorted(near)))}; '
                f'or image {side} {nearest_multiples(length, patch)}; or pad=True'
            )
        grid.append(-(-length // patch))
    return tuple(grid)


def patchify(
    images: jax.Array, patch_size: int | tuple[int, int], *, pad: bool = False
) -> jax.Array:
    """Cuts images [B, H, W, C] into patches [B, N, Ph, Pw, C], row by row.

    With `pad=True` zeros are added around the image until the patches fill it, as SAME padding does:
    as many on both sides, or one more below and on the right.
    """
    batch, height, width, channels = images.shape
    rows, columns = grid_size((height, width), patch_size, pad=pad)
    patch = as_pair(patch_size)
    down, right = rows * patch[0] - height, columns * patch[1] - width
    if down or right:
        added = ((down // 2, down - down // 2), (right // 2, right - right // 2))
        images = jnp.pad(images, ((0, 0), *added, (0, 0)))
    images = images.reshape(batch, rows, patch[0], columns, patch[1], channels)
    images = images.swapaxes(2, 3)  # [B, Gh, Gw, Ph, Pw, C]
    return images.reshape(batch, rows * columns, *patch, channels)


def unpatchify(patches: jax.Array, image_size: int | tuple[int, int]) -> jax.Array:
    """Puts patches [B, N, Ph, Pw, C] together to images [B, H, W, C]: the inverse of `patchify`.

    What padding added is cut off again.
    """
    batch, count, *patch, channels = patches.shape
    height, width = as_pair(image_size)
    rows, columns = grid_size((height, width), tuple(patch), pad=True)
    if rows * columns != count:
        raise ValueError(
            f'{count} patches of {patch[0]}x{patch[1]} do not make an image of {height}x{width}: '
            f'that takes {rows * columns}'
        )
    images = patches.reshape(batch, rows, columns, *patch, channels)
    images = images.swapaxes(2, 3)  # [B, Gh, Ph, Gw, Pw, C]
    images = images.reshape(batch, rows * patch[0], columns * patch[1], channels)
    down, right = (rows * patch[0] - height) // 2, (columns * patch[1] - width) // 2
    return images[:, down : down + height, right : right + width]


def resample_kernel(
    kernel: jax.Array, new_patch: int | tuple[int, int], *, method: str = 'cubic_antialias'
) -> jax.Array:
    """Resamples the kernel of a patch embedding to another patch (Beyer et al. 2023, eq. 3-5).

    Not the kernel is resized: it is chosen so that a resized patch gives the same token as the
    patch before, exactly where patches grow, else as nearly as may be for patches of white noise.

    Args:
      kernel: [Ph, Pw, C, D].
      new_patch: in pixels, one number or (height, width).
      method: how patches are resized, see `vitjax.layers.resampling`; timm's is
        'cubic_antialias', big_vision's 'linear'.

    Returns:
      [Ph', Pw', C, D] in the dtype of the kernel, computed in float32; the same patch gives the
      kernel itself.
    """
    old_patch, new_patch = kernel.shape[:2], as_pair(new_patch)
    # The pseudo-inverse of resizing an image is that of its rows and that of its columns.
    rows, columns = (
        np.linalg.pinv(resize_matrix(old, new, method).T).astype(np.float32)
        for old, new in zip(old_patch, new_patch, strict=True)
    )
    if old_patch == new_patch:
        return kernel
    kernel = jnp.asarray(kernel)
    resampled = jnp.einsum('yr,xc,rc...->yx...', rows, columns, kernel, precision='highest')
    return resampled.astype(kernel.dtype)


class PatchEmbedding(nn.Module):
    """Projects each patch to a token (Dosovitskiy et al. 2021, eq. 1).

    The parameters are those of a convolution with stride = kernel size, kernel [Ph, Pw, C, D];
    the computation is one matrix product, whose gradients are fast on every device.
    """

    patch_size: tuple[int, int]
    width: int
    pad: bool = False
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """images [B, H, W, C] -> tokens [B, N, D]."""
        shape = (*self.patch_size, images.shape[-1], self.width)
        kernel = self.param('kernel', nn.initializers.lecun_normal(in_axis=(0, 1, 2)), shape)
        patches = patchify(images.astype(self.dtype), self.patch_size, pad=self.pad)
        patches = patches.reshape(*patches.shape[:2], -1)  # [B, N, Ph * Pw * C]
        kernel = kernel.reshape(-1, self.width).astype(self.dtype)
        tokens = patches @ kernel  # [B, N, D]
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.width,))
            tokens = tokens + bias.astype(self.dtype)
        return tokens
