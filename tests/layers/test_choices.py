"""Layers refuse unknown names in arguments that choose among a few."""

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
        (
            built(Convolution(2, (3, 3), padding='same')),
            "unknown padding 'same'; did you mean 'SAME'",
        ),
        (
            built(ConvBlock(2, (3, 3), norm='layer')),
            "unknown norm 'layer'; known: batch, group, none",
        ),
        (built(ResidualBlock(2, 'bottle')), "unknown kind 'bottle'; did you mean 'bottleneck'"),
        (built(ResidualBlock(2, norm='grup')), "unknown norm 'grup'; did you mean 'group'"),
        (built(ResNetBackbone((1,), 'Basic')), "unknown kind 'Basic'; did you mean 'basic'"),
        (lambda: resnet_windows((1,), 'v2'), "unknown kind 'v2'; known: basic, bottleneck"),
        (
            built(SpatialAttention(normalise='sigmod')),
            "unknown normalise 'sigmod'; did you mean 'sigmoid'",
        ),
        (
            lambda: sincos2d((2, 2), 8, variant='moco'),
            "unknown variant 'moco'; known: mae, simple_vit",
        ),
        (built(MLP(4, activation='tanh')), "unknown activation 'tanh'; did you mean 'gelu_tanh'"),
    ],
)
def test_check_choice_refuses_unknown_names(call, message):
    with pytest.raises(ValueError, match=message):
        call()
