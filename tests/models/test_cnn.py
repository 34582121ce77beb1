import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.models.cnn import CNN
from vitjax.models.resnet import ResNet

K = 5
SMALL_CNN = functools.partial(CNN, widths=(4, 6), stage_depth=2, num_classes=K)
SMALL_RESNET = functools.partial(ResNet, stage_depths=(2, 1), width=4, num_classes=K)

# What all convolutional networks share: constructor, channels of each block, of each root.
NETWORKS = [
    pytest.param(SMALL_CNN, (4, 4, 6, 6), (1, 1, 2, 2), id='cnn'),
    pytest.param(
        functools.partial(SMALL_CNN, norm='batch', spatial_attention='sigmoid', attention_maps=2),
        (4, 4, 6, 6),
        (1, 1, 2, 2),
        id='cnn_spatial_attention',
    ),
    pytest.param(
        functools.partial(SMALL_RESNET, block='basic'), (4, 4, 8), (4, 4, 8), id='resnet_basic'
    ),
    pytest.param(
        functools.partial(SMALL_RESNET, norm='group'), (16, 16, 32), (4, 4, 8), id='resnet_group'
    ),
]
SHARED = pytest.mark.parametrize(('network', 'channels', 'strides'), NETWORKS)


def shapes(model, size, channels=3, **options):
    images = np.zeros((2, *size, channels), np.float32)
    return jax.eval_shape(
        functools.partial(model.init_with_output, **options), jax.random.key(0), images
    )


def random_variables(model, size, channels=3):
    rng = np.random.default_rng(0)

    def values(path, leaf):
        value = rng.normal(size=leaf.shape).astype(np.float32) * 0.5
        return abs(value) + 0.1 if path[-1].key == 'var' else value

    return jax.tree.map_with_path(values, shapes(model, size, channels)[1])


@pytest.mark.slow
@SHARED
@pytest.mark.parametrize(
    ('size', 'in_channels'), [((8, 8), 3), ((7, 12), 1), ((33, 9), 4), ((1, 1), 1)]
)
def test_cnn_takes_any_image_size_and_channels(network, channels, strides, size, in_channels):
    model = network(image_size=size, in_channels=in_channels)
    logits, _ = shapes(model, size, in_channels)
    features, _ = shapes(model, size, in_channels, method='features')
    assert (logits.shape, logits.dtype) == ((2, K), jnp.float32)
    assert set(features) == {'tokens', 'prefix', 'pooled', 'blocks'}
    expected = [
        (2, -(-size[0] // stride), -(-size[1] // stride), width)
        for stride, width in zip(strides, channels, strict=True)
    ]
    assert [block.shape for block in features['blocks']] == expected
    _, rows, columns, width = expected[-1]
    assert features['tokens'].shape == (2, rows * columns, width)
    assert features['prefix'].shape == (2, 0, width)
    assert features['pooled'].shape == (2, width)


@pytest.mark.slow
@SHARED
def test_cnn_features(network, channels, strides):
    model = network(image_size=(6, 9))
    variables = random_variables(model, (6, 9))
    images = np.random.default_rng(1).normal(size=(2, 6, 9, 3)).astype(np.float32)
    features, logits = jax.jit(
        lambda images: (
            model.apply(variables, images, method='features'),
            model.apply(variables, images),
        )
    )(images)
    tokens = features['tokens']
    np.testing.assert_array_equal(tokens, features['blocks'][-1].reshape(tokens.shape))
    np.testing.assert_allclose(features['pooled'], tokens.mean(1), atol=1e-5)
    head = variables['params']['head']
    expected = features['pooled'] @ head['kernel'] + head['bias']
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.ptp(logits, axis=0).min() > 1e-3


@pytest.mark.slow
@SHARED
@pytest.mark.parametrize('size', [(64, 64), (45, 30)])
def test_cnn_windows(network, channels, strides, size):
    """A unit's gradient reaches as far as the windows say, and every map has their stride."""
    options = {'norm': 'batch', 'image_size': size, 'in_channels': 1}
    model = network(**options)
    # With such variables everything is positive, so that nothing cancels out or is cut off.
    variables = jax.tree.map_with_path(
        lambda path, leaf: np.full(leaf.shape, path[-1].key != 'mean', np.float32),
        shapes(model, size, 1)[1],
    )
    images = np.ones((1, *size, 1), np.float32)
    blocks, gradients = jax.jit(functools.partial(centre_gradients, model))(variables, images)
    windows = model.windows()
    names = list(windows)
    assert names[-len(channels) :] == [
        name for name in variables['params'].get('backbone', variables['params']) if 'block' in name
    ]
    field, stride = 1, 1
    for name in names:
        for window in windows[name]:
            field += (window.kernel[0] - 1) * stride
            stride *= window.stride[0]
        if name in names[-len(channels) :]:
            block, gradient = blocks.pop(0), gradients.pop(0)[0, :, :, 0]
            assert block.shape[1:3] == tuple(-(-length // stride) for length in size)
            for axis, length in enumerate(size):
                reached = np.flatnonzero(gradient.any(axis=1 - axis))
                size_of_field = reached[-1] - reached[0] + 1
                assert size_of_field <= field
                # A max pool sends the gradient to one place alone.
                if 'root' not in windows and reached[0] > 0 and reached[-1] < length - 1:
                    assert size_of_field == len(reached) == field
    assert not blocks


def centre_gradients(model, variables, images):
    def centres(images):
        blocks = model.apply(variables, images, method='features')['blocks']
        middle = [block[0, block.shape[1] // 2, block.shape[2] // 2].sum() for block in blocks]
        return jnp.stack(middle), list(blocks)

    _, pull_back, blocks = jax.vjp(centres, images, has_aux=True)
    return blocks, [pull_back(row)[0] for row in jnp.eye(len(blocks))]


@SHARED
def test_cnn_without_classes_returns_the_pooled_vector(network, channels, strides):
    output, variables = shapes(network(image_size=8, num_classes=0), (8, 8))
    assert (output.shape, output.dtype) == ((2, channels[-1]), jnp.float32)
    assert 'head' not in variables['params']


def test_cnn_head_is_initialised_with_zeros():
    images = np.ones((1, 8, 8, 3), np.float32)
    variables = jax.jit(SMALL_CNN(image_size=8).init)(jax.random.key(0), images)
    head = variables['params']['head']
    assert not np.any(head['kernel'])
    assert not np.any(head['bias'])


@pytest.mark.slow
@SHARED
def test_cnn_in_bfloat16_is_near_float32(network, channels, strides):
    variables = random_variables(network(image_size=8), (8, 8))
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    expected, found = (
        jax.jit(network(image_size=8, dtype=dtype).apply)(variables, images)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert found.dtype == jnp.float32
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    _, initial = shapes(network(image_size=8, dtype=jnp.bfloat16), (8, 8))
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {np.dtype('float32')}


@pytest.mark.parametrize('network', [SMALL_CNN, SMALL_RESNET])
def test_cnn_batch_norm_uses_batch_statistics_only_in_training(network):
    model = network(image_size=8, norm='batch')
    variables = random_variables(model, (8, 8))
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    apply = jax.jit(
        functools.partial(model.apply, mutable=['batch_stats']), static_argnames='train'
    )
    before = variables['batch_stats']
    used, unchanged = apply(variables, images)
    jax.tree.map(np.testing.assert_array_equal, unchanged['batch_stats'], before)
    np.testing.assert_allclose(apply(variables, images[::-1])[0], used[::-1], atol=1e-4)
    alone = apply(variables, np.stack([images[0], images[0]]))[0]
    np.testing.assert_allclose(alone[0], used[0], atol=1e-4)
    _, changed = apply(variables, images, train=True)
    assert all(
        jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), changed['batch_stats'], before))
    )


def test_cnn_with_group_norm_has_no_batch_stats():
    assert set(shapes(SMALL_CNN(image_size=8), (8, 8))[1]) == {'params'}


@pytest.mark.parametrize('train', [False, True])
def test_cnn_dropout_acts_only_in_training(train):
    model = SMALL_CNN(image_size=8, dropout=0.5)
    variables = random_variables(model, (8, 8))
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    one, other = (
        model.apply(variables, images, train, rngs={'dropout': jax.random.key(seed)})
        for seed in range(2)
    )
    assert (one != other).any() == train


@pytest.mark.parametrize('kind', ['sigmoid', 'softmax'])
def test_cnn_spatial_attention(kind):
    model = SMALL_CNN(image_size=(6, 9), spatial_attention=kind, attention_maps=2)
    variables = random_variables(model, (6, 9))
    images = np.random.default_rng(1).normal(size=(2, 6, 9, 3)).astype(np.float32)
    features = jax.jit(
        lambda images: model.apply(variables, images, method='features', attention=True)
    )(images)
    importance = features['attention']
    assert [maps.shape for maps in importance] == [(2, 6, 9, 2), (2, 3, 5, 2)]
    if kind == 'softmax':
        for maps in importance:
            np.testing.assert_allclose(maps.mean((1, 2)), 1, atol=1e-5)
    last = {name: windows[-1].kernel for name, windows in model.windows().items()}
    assert last == {
        'stage1_block1': (3, 3),
        'stage1_block2': (1, 1) if kind == 'sigmoid' else None,
        'stage2_block1': (3, 3),
        'stage2_block2': (1, 1) if kind == 'sigmoid' else None,
    }


@SHARED
def test_cnn_features_without_spatial_attention_refuse_attention(network, channels, strides):
    model = network(image_size=8)
    if getattr(model, 'spatial_attention', 'none') == 'none':
        with pytest.raises(ValueError, match='no spatial attention'):
            shapes(model, (8, 8), method='features', attention=True)
    else:
        assert 'attention' not in shapes(model, (8, 8), method='features')[0]


def test_cnn_parameter_count():
    model = CNN(in_channels=1, image_size=28, spatial_attention='sigmoid', attention_maps=4)
    _, variables = shapes(model, (28, 28), 1)
    widths = [1, 32, 32, 64, 64, 128, 128]
    convolutions = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    attention = sum(4 * width + 4 for width in (32, 64, 128))
    total = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert total == convolutions + attention + 128 * 10 + 10


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'image_size': 0}, 'image_size must be at least 1, not 0'),
        ({'image_size': (3, 4, 5)}, 'whole number or'),
        ({'in_channels': 0}, 'in_channels must be at least 1, not 0'),
        ({'num_classes': -1}, 'num_classes must be at least 0'),
        ({'widths': ()}, 'widths must name at least one stage'),
        ({'widths': (4, 0)}, r'widths must be at least 1, not \(4, 0\)'),
        ({'stage_depth': 0}, 'stage_depth must be at least 1'),
        ({'kernel_size': 0}, 'kernel_size must be at least 1'),
        ({'norm': 'layer'}, "unknown norm 'layer'"),
        ({'spatial_attention': 'sigmod'}, "did you mean 'sigmoid'"),
        ({'attention_maps': 0}, 'attention_maps must be at least 1'),
        (
            {'spatial_attention': 'sigmoid', 'attention_maps': 4},
            'attention_maps 4 does not divide width 6',
        ),
        ({'dropout': 1.0}, r'dropout must be in \[0, 1\)'),
    ],
)
def test_cnn_refuses_invalid_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        SMALL_CNN(**changes)


@SHARED
@pytest.mark.parametrize('size', [(8, 9), (9, 8)])
def test_cnn_refuses_images_of_other_shapes(network, channels, strides, size):
    with pytest.raises(ValueError, match=r'takes images \[batch, 8, 8, 3\], not \[2, '):
        shapes(network(image_size=8), size)
