"""What is ResNet's own; what it shares with all convolutional networks is in test_cnn.py."""

import functools

import jax
import numpy as np
import pytest

from vitjax.layers.convolution import Window
from vitjax.models.resnet import ResNet

SMALL = functools.partial(ResNet, image_size=16, stage_depths=(1, 2), width=4, num_classes=5)
BASIC = functools.partial(SMALL, block='basic')


def parameters(model):
    images = np.zeros((1, 16, 16, model.in_channels), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(np.shape, variables['params'])


def square(kernel, stride=1):
    return Window((kernel, kernel), (stride, stride))


ROOT = (square(7, 2), square(3, 2))


@pytest.mark.parametrize(
    ('model', 'windows'),
    [
        (
            BASIC(),
            {
                'root': ROOT,
                'stage1_block1': (square(3), square(3)),
                'stage2_block1': (square(3, 2), square(3)),
                'stage2_block2': (square(3), square(3)),
            },
        ),
        (
            SMALL(),
            {
                'root': ROOT,
                'stage1_block1': (square(1), square(3), square(1)),
                'stage2_block1': (square(1), square(3, 2), square(1)),
                'stage2_block2': (square(1), square(3), square(1)),
            },
        ),
    ],
)
def test_resnet_windows(model, windows):
    assert model.windows() == windows
    assert list(model.windows()) == list(parameters(model)['backbone'])


def test_resnet_parameters_of_a_bottleneck():
    stage2 = parameters(SMALL())['backbone']['stage2_block1']
    kernels = {name: layer['convolution'] for name, layer in stage2.items()}
    assert kernels == {
        'conv1': {'kernel': (1, 1, 16, 8)},
        'conv2': {'kernel': (3, 3, 8, 8)},
        'conv3': {'kernel': (1, 1, 8, 32)},
        'projection': {'kernel': (1, 1, 16, 32)},
    }
    assert {name: layer['norm'] for name, layer in stage2.items()} == {
        name: {'scale': (width,), 'bias': (width,)}
        for name, width in {'conv1': 8, 'conv2': 8, 'conv3': 32, 'projection': 32}.items()
    }


@pytest.mark.parametrize('model', [BASIC(), SMALL()])
def test_resnet_projects_shortcuts_only_where_the_shape_changes(model):
    backbone = parameters(model)['backbone']
    projected = {name for name, block in backbone.items() if 'projection' in block}
    # A bottleneck widens the map in the first stage already.
    widened = {'stage1_block1'} if model.block == 'bottleneck' else set()
    assert projected == {'stage2_block1'} | widened


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'stage_depths': ()}, 'stage_depths must name at least one stage'),
        ({'stage_depths': (2, 0)}, r'stage_depths must be at least 1, not \(2, 0\)'),
        ({'width': 0}, 'width must be at least 1'),
        ({'block': 'bottle'}, "unknown block 'bottle'; did you mean 'bottleneck'"),
        ({'norm': 'none'}, "unknown norm 'none'"),
        ({'image_size': (4, 0)}, 'image_size must be at least 1'),
        ({'dropout': -0.1}, r'dropout must be in \[0, 1\)'),
    ],
)
def test_resnet_refuses_invalid_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        SMALL(**changes)
