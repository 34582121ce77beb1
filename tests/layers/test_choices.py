"""Layers that take a word refuse any other."""

import jax
import numpy as np
import pytest

from vitjax.layers.convolution import (
    ConvBlock,
    Convolution,
    ResidualBlock,
    ResNetBackbone,
    resnet_windows,
)
from vitjax.layers.mlp import MLP
from vitjax.layers.positions import sincos2d
from vitjax.layers.spatial import SpatialAttention

IMAGES = np.zeros((1, 4, 4, 2))


def built(module):
    return lambda: jax.eval_shape(module.init, jax.random.key(0), IMAGES)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (built(Convolution(2, (3, 3), padding='same')), "padding 'same' is none of SAME, VALID"),
        (built(ConvBlock(2, (3, 3), norm='layer')), "norm 'layer' is none of group, batch, none"),
        (built(ResidualBlock(2, 'bottle')), "kind 'bottle' is none of basic, bottleneck"),
        (built(ResidualBlock(2, norm='grup')), "norm 'grup' is none of group, batch, none"),
        (built(ResNetBackbone((1,), 'Basic')), "kind 'Basic' is none of basic, bottleneck"),
        (lambda: resnet_windows((1,), 'v2'), "kind 'v2' is none of basic, bottleneck"),
        (
            built(SpatialAttention(normalise='sigmod')),
            "normalise 'sigmod' is none of sigmoid, softmax",
        ),
        (lambda: sincos2d((2, 2), 8, variant='moco'), "variant 'moco' is none of simple_vit, mae"),
        (built(MLP(4, activation='tanh')), "activation 'tanh' is none of gelu, gelu_tanh,"),
    ],
)
def test_words_that_are_not_known(call, message):
    with pytest.raises(ValueError, match=message):
        call()
