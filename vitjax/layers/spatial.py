"""Spatial attention: how much each place of the image matters."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.choices import check_choice


class SpatialAttention(nn.Module):
    """A 1x1 convolution rates every pixel of a feature map, and the map is multiplied by its rates.

    With 'sigmoid' and one map it is the spatial squeeze-and-excitation (sSE) of Roy et al. 2018;
    CBAM (Woo et al. 2018, section 3) rates each pixel from its neighbours too, with a 7x7 filter.

    Attributes:
      maps: importance maps; map m weighs the m-th of `maps` equal groups of channels.
      normalise: 'sigmoid', each pixel by itself, between 0 and 1; or 'softmax' over all pixels, times
        their number, so that the mean importance is 1 and the features keep their scale.
      dtype: of the computation; parameters and importance are float32.
    """

    maps: int = 1
    normalise: Literal['sigmoid', 'softmax'] = 'sigmoid'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map [B, H, W, C] -> the map weighed [B, H, W, C], and importance [B, H, W, maps], float32.

        Raises:
          ValueError: the maps do not divide the channels, or `normalise` is another word.
        """
        check_choice('normalise', self.normalise, ('sigmoid', 'softmax'))
        _, height, width, channels = x.shape
        if self.maps < 1 or channels % self.maps:
            raise ValueError(f'{self.maps} attention maps do not divide {channels} channels')
        rates = nn.Dense(self.maps, dtype=self.dtype, name='importance')(x)  # [B, H, W, maps]
        rates = rates.astype(jnp.float32)
        if self.normalise == 'sigmoid':
            importance = nn.sigmoid(rates)
        else:
            importance = nn.softmax(rates, axis=(1, 2)) * (height * width)
        weights = jnp.repeat(importance, channels // self.maps, axis=-1)  # [B, H, W, C]
        return x.astype(self.dtype) * weights.astype(self.dtype), importance
