"""A plain convolutional network, and the base class of convolutional networks."""

from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from vitjax.layers.arrays import Array
from vitjax.layers.convolution import ConvBlock, Window
from vitjax.layers.patches import as_pair
from vitjax.layers.spatial import SpatialAttention
from vitjax.models.checks import (
    check_at_least,
    check_choices,
    check_image_size,
    check_images,
    check_rates,
    lists_to_tuples,
)


class ConvNet(nn.Module):
    """Image -> feature maps -> mean over the last map -> logits.

    A subclass has the fields image_size, in_channels, num_classes, dropout and dtype, and a method
    `_maps(images, train)` that returns the maps after each block and those of spatial attention.
    """

    def setup(self):
        self.head_dropout = nn.Dropout(self.dropout)
        if self.num_classes:
            # float32 for every dtype, for softmax and loss.
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    def __call__(
        self, images: Float[Array, 'B H W C'], train: bool = False
    ) -> Float[jax.Array, 'B K']:
        """Normalised images -> logits, float32; without a head (`num_classes=0`) the pooled vector.

        With `train=True` batch norm uses statistics of the batch and updates `batch_stats`, which must be
        mutable; with dropout, give `rngs={'dropout': key}`.
        """
        maps, _ = self._checked_maps(images, train)
        x = self.head_dropout(_pool(maps[-1]), deterministic=not train)  # [B, D]
        return self.head(x) if self.num_classes else x  # [B, K]

    def features(
        self, images: Float[Array, 'B H W C'], *, attention: bool = False, train: bool = False
    ) -> dict[str, jax.Array | tuple[jax.Array, ...]]:
        """Intermediate results for normalised images.

        Returns:
          tokens [B, N, D], the pixels of the last map, row by row; prefix [B, 0, D]; pooled [B, D],
          float32, their mean; blocks, a tuple of maps [B, H_i, W_i, C_i], one after each block; and,
          with `attention`, attention, a tuple of importance maps [B, H_i, W_i, maps], float32.

        Raises:
          ValueError: `attention` of a model without spatial attention.
        """
        maps, importance = self._checked_maps(images, train)
        if attention and not importance:
            raise ValueError('this model has no spatial attention to return')
        last = maps[-1]
        tokens = last.reshape(last.shape[0], -1, last.shape[-1])  # [B, N, D]
        features = {
            'tokens': tokens,
            'prefix': tokens[:, :0],
            'pooled': _pool(last),
            'blocks': maps,
        }
        return features | ({'attention': importance} if attention else {})

    def _checked_maps(self, images: Array, train: bool):
        check_images(self, images)
        return self._maps(images, train)


def _pool(features: Float[Array, 'B H W D']) -> Float[jax.Array, 'B D']:
    """Map [B, H, W, D] -> mean [B, D], float32."""
    return features.mean(axis=(1, 2), dtype=jnp.float32)


class CNN(ConvNet):
    """Stages of convolutions; each stage halves the map and sees a larger part of the image.

    Attributes:
      image_size: in pixels, one number or (height, width), of any size.
      in_channels: channels C of the images.
      num_classes: classes K; 0 for a model without head, which returns the pooled vector.
      widths: channels of each stage; every stage but the first begins with stride 2.
      stage_depth: convolutions per stage.
      kernel_size: of every filter, one number or (height, width).
      norm: 'group' (with standardised kernels), 'batch' or 'none'.
      spatial_attention: 'none', or the normalisation of the importance of pixels, see
        `SpatialAttention`; it is applied to the last map of each stage.
      attention_maps: importance maps per stage; divides every width.
      dropout: before the head.
      dtype: of the computation; parameters, statistics of norms and importance are float32.
    """

    image_size: int | tuple[int, int] = 32
    in_channels: int = 3
    num_classes: int = 10
    widths: tuple[int, ...] = (32, 64, 128)
    stage_depth: int = 2
    kernel_size: int | tuple[int, int] = 3
    norm: Literal['group', 'batch', 'none'] = 'group'
    spatial_attention: Literal['none', 'sigmoid', 'softmax'] = 'none'
    attention_maps: int = 1
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self):
        lists_to_tuples(self)
        super().__post_init__()
        if not self.widths:
            raise ValueError('widths must name at least one stage')
        check_choices(self, 'norm', 'spatial_attention')
        check_at_least(self, 1, 'in_channels', 'widths', 'stage_depth', 'kernel_size')
        check_at_least(self, 1, 'attention_maps')
        check_at_least(self, 0, 'num_classes')
        check_rates(self, 'dropout')
        check_image_size(self)
        odd = [width for width in self.widths if width % self.attention_maps]
        if self.spatial_attention != 'none' and odd:
            raise ValueError(f'attention_maps {self.attention_maps} does not divide width {odd[0]}')

    def windows(self) -> dict[str, tuple[Window, ...]]:
        """Layer -> windows from the map before (first the image) to its map.

        Spatial attention belongs to the layer that it follows. Statistics of group norm, which depend on
        all pixels of a map, are ignored.
        """
        kernel = as_pair(self.kernel_size)
        windows: dict[str, tuple[Window, ...]] = {}
        for name, _, stride, is_last in self._layout():
            windows[name] = (Window(kernel, (stride, stride)),)
            if is_last and self.spatial_attention != 'none':
                seen = None if self.spatial_attention == 'softmax' else (1, 1)
                windows[name] += (Window(seen, (1, 1)),)
        return windows

    @nn.compact
    def _maps(self, images: Array, train: bool):
        x, maps, importance = images, [], []
        for name, width, stride, is_last in self._layout():
            block = ConvBlock(
                width,
                as_pair(self.kernel_size),
                stride,
                norm=self.norm,
                dtype=self.dtype,
                name=name,
            )
            x = block(x, train=train)  # [B, H_i, W_i, C_i]
            if is_last and self.spatial_attention != 'none':
                attention = SpatialAttention(
                    self.attention_maps,
                    self.spatial_attention,
                    dtype=self.dtype,
                    name=name.partition('_')[0] + '_attention',
                )
                x, weights = attention(x)
                importance.append(weights)
            maps.append(x)
        return tuple(maps), tuple(importance)

    def _layout(self) -> Iterator[tuple[str, int, int, bool]]:
        """Name, width and stride of each block, and whether it is the last of its stage."""
        for stage, width in enumerate(self.widths):
            for index in range(self.stage_depth):
                stride = 2 if stage and not index else 1
                is_last = index == self.stage_depth - 1
                yield f'stage{stage + 1}_block{index + 1}', width, stride, is_last
