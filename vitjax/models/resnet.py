"""Residual networks (He et al. 2016), with the stride in the 3x3 convolution ("v1.5")."""

from typing import Any, Literal

import jax.numpy as jnp

from vitjax.layers.arrays import Array
from vitjax.layers.convolution import ResNetBackbone, Window, resnet_windows
from vitjax.models.checks import (
    check_at_least,
    check_choices,
    check_image_size,
    check_rates,
    lists_to_tuples,
)
from vitjax.models.cnn import ConvNet


class ResNet(ConvNet):
    """Root, stages of residual blocks, mean over the last map, logits.

    Attributes:
      image_size: in pixels, one number or (height, width), of any size.
      in_channels: channels C of the images.
      num_classes: classes K; 0 for a model without head, which returns the pooled vector.
      stage_depths: blocks of each stage.
      block: 'basic' (two 3x3) or 'bottleneck' (1x1, 3x3, 1x1).
      width: channels of the root and of the 3x3 convolutions in the first stage; doubled every stage.
      norm: 'batch', or 'group' (with standardised kernels).
      dropout: before the head.
      dtype: of the computation; parameters and statistics of norms are float32.
    """

    image_size: int | tuple[int, int] = 224
    in_channels: int = 3
    num_classes: int = 1000
    stage_depths: tuple[int, ...] = (3, 4, 6, 3)
    block: Literal['basic', 'bottleneck'] = 'bottleneck'
    width: int = 64
    norm: Literal['batch', 'group'] = 'batch'
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self):
        lists_to_tuples(self)
        super().__post_init__()
        if not self.stage_depths:
            raise ValueError('stage_depths must name at least one stage')
        check_choices(self, 'block', 'norm')
        check_at_least(self, 1, 'in_channels', 'stage_depths', 'width')
        check_at_least(self, 0, 'num_classes')
        check_rates(self, 'dropout')
        check_image_size(self)

    def setup(self):
        super().setup()
        self.backbone = ResNetBackbone(
            self.stage_depths, self.block, self.width, self.norm, self.dtype
        )

    def windows(self) -> dict[str, tuple[Window, ...]]:
        """Layer -> windows from the map before (first the image) to its map.

        Statistics of group norm, which depend on all pixels of a map, are ignored.
        """
        return resnet_windows(self.stage_depths, self.block)

    def _maps(self, images: Array, train: bool):
        return self.backbone(images, train=train)[1:], ()
