"""Cutting an image into patches of any size, putting it together again, and embedding the patches."""

from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from vitjax.layers.arrays import Array
from vitjax.layers.resampling import resize_matrix


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or as a pair.

    >>> as_pair(16)
    (16, 16)
    """
    pair = (size, size) if isinstance(size, int | Integral) else tuple(size)
    if len(pair) != 2 or not all(isinstance(length, Integral) for length in pair):
        raise ValueError(f'a size is a whole number or (height, width), not {size}')
    return int(pair[0]), int(pair[1])


def nearest_multiples(size: int, step: int) -> str:
    """The nearest multiples of `step` below and above `size`, as text for a message.

    >>> nearest_multiples(224, 15)
    '210 or 225'
    """
    below = size // step * step
    return ' or '.join(str(multiple) for multiple in (below, below + step) if multiple)


def grid_size(
    image_size: int | tuple[int, int], patch_size: int | tuple[int, int], *, pad: bool = False
) -> tuple[int, int]:
    """Rows and columns (Gh, Gw) of patches; with `pad=True` the outer patches reach beyond the image.

    Raises:
      ValueError: the patch does not divide the image (names the nearest sizes that fit), or a size is
        below 1.
    """
    grid: list[int] = []
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
    return grid[0], grid[1]


def patchify(
    images: Shaped[Array, 'B H W C'], patch_size: int | tuple[int, int], *, pad: bool = False
) -> Shaped[Array, 'B N Ph Pw C']:
    """Cuts images [B, H, W, C] into patches [B, N, Ph, Pw, C], row by row.

    With `pad=True` zeros are added around the image up to a multiple of the patch, as SAME padding does:
    the same number on both sides, or one more below and on the right.
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


def unpatchify(
    patches: Shaped[Array, 'B N Ph Pw C'], image_size: int | tuple[int, int]
) -> Shaped[Array, 'B H W C']:
    """Assembles images [B, H, W, C] from patches [B, N, Ph, Pw, C]: the inverse of `patchify`.

    Padding is removed.

    Raises:
      ValueError: the number of patches does not fit the image.
    """
    batch, count, *_, channels = patches.shape
    patch = patches.shape[2], patches.shape[3]
    height, width = as_pair(image_size)
    rows, columns = grid_size((height, width), patch, pad=True)
    if rows * columns != count:
        raise ValueError(
            f'{count} patches of {patch[0]}x{patch[1]} do not make an image of {height}x{width}: '
            f'{rows * columns} are needed'
        )
    images = patches.reshape(batch, rows, columns, *patch, channels)
    images = images.swapaxes(2, 3)  # [B, Gh, Ph, Gw, Pw, C]
    images = images.reshape(batch, rows * patch[0], columns * patch[1], channels)
    down, right = (rows * patch[0] - height) // 2, (columns * patch[1] - width) // 2
    return images[:, down : down + height, right : right + width]


def resample_kernel(
    kernel: Float[Array, 'Ph Pw C D'],
    new_patch: int | tuple[int, int],
    *,
    method: str = 'cubic_antialias',
) -> Float[Array, 'Ph2 Pw2 C D']:
    """Resamples the kernel of a patch embedding to another patch size (Beyer et al. 2023, eq. 3-5).

    The kernel itself is not resized. The new kernel gives for a resized patch the token of the original
    patch: exactly where patches grow, else with the least squared error for patches of white noise.

    Args:
      kernel: of the old patch size.
      new_patch: in pixels, one number or (height, width).
      method: how patches are resized, see `vitjax.layers.resampling`; timm uses 'cubic_antialias',
        big_vision 'linear'.

    Returns:
      The new kernel in the dtype of the old one, computed in float32. For the same patch size it is the old
      kernel, unchanged.
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

    Attributes:
      patch_size: height and width in pixels.
      width: width D of the tokens.
      pad: pad images that the patch does not divide, see `patchify`.
      use_bias: whether to add a bias.
      dtype: of the computation; parameters are float32.
    """

    patch_size: tuple[int, int]
    width: int
    pad: bool = False
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Shaped[Array, 'B H W C']) -> Float[jax.Array, 'B N D']:
        """Images -> tokens."""
        shape = (*self.patch_size, images.shape[-1], self.width)
        kernel = self.param('kernel', nn.initializers.lecun_normal(in_axis=(0, 1, 2)), shape)
        patches = patchify(jnp.asarray(images, self.dtype), self.patch_size, pad=self.pad)
        patches = jnp.reshape(patches, (*patches.shape[:2], -1))  # [B, N, Ph * Pw * C]
        kernel = kernel.reshape(-1, self.width).astype(self.dtype)
        tokens = patches @ kernel  # [B, N, D]
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.width,))
            tokens = tokens + bias.astype(self.dtype)
        return tokens
