"""Spatial attention: an importance weight for each place of a feature map."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.layers.arrays import Array
from vitjax.layers.choices import check_choice


class SpatialAttention(nn.Module):
    """A 1x1 convolution computes the importance of every pixel, by which the map is multiplied.

    With 'sigmoid' and one map it is the spatial squeeze-and-excitation (sSE) of Roy et al. 2018;
    CBAM (Woo et al. 2018, section 3) uses a 7x7 filter, which also sees the neighbours.

    Attributes:
      maps: importance maps; map m weighs the m-th of `maps` equal groups of channels.
      normalise: 'sigmoid', each pixel by itself, between 0 and 1; or 'softmax' over all pixels, times
        their number, so that the mean importance is 1 and the features keep their scale.
      dtype: of the computation; parameters and importance are float32.
    """

    maps: int = 1
    normalise: Literal['sigmoid', 'softmax'] = 'sigmoid'
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, 'B H W C']
    ) -> tuple[Float[jax.Array, 'B H W C'], Float[jax.Array, 'B H W maps']]:
        """Map -> the weighted map, and the importance, float32.

        Raises:
          ValueError: the maps do not divide the channels, or `normalise` is unknown.
        """
        check_choice('normalise', self.normalise, ('sigmoid', 'softmax'))
        _, height, width, channels = x.shape
        if self.maps < 1 or channels % self.maps:
            raise ValueError(f'{self.maps} attention maps do not divide {channels} channels')
        scores = nn.Dense(self.maps, dtype=self.dtype, name='importance')(x)  # [B, H, W, maps]
        scores = scores.astype(jnp.float32)
        if self.normalise == 'sigmoid':
            importance = nn.sigmoid(scores)
        else:
            importance = nn.softmax(scores, axis=(1, 2)) * (height * width)
        weights = jnp.repeat(importance, channels // self.maps, axis=-1)  # [B, H, W, C]
        return jnp.asarray(x, self.dtype) * weights.astype(self.dtype), importance
