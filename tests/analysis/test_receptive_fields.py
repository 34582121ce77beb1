import math

import jax
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.analysis import receptive_field
from vitjax.layers.convolution import Window
from vitjax.models.registry import create_model


class Stack(nn.Module):
    """Layers of one window each, with equal positive weights, so that no gradients cancel."""

    image_size: tuple[int, int]
    layers: tuple[Window, ...]
    stem: int = 0  # number of first layers that `features` does not return

    def windows(self):
        return {f'layer{i}': (window,) for i, window in enumerate(self.layers)}

    def features(self, x):
        blocks = []
        for kernel, stride in self.layers:
            x = nn.relu(nn.avg_pool(x, kernel, stride, padding='SAME'))
            blocks.append(x)
        return {'blocks': tuple(blocks[self.stem :])}


def ones(model):
    return np.ones((1, *model.image_size, 1), np.float32)


def extent(mask):
    """First and last index of True values, by rows and by columns."""
    return [tuple(np.flatnonzero(mask.any(axis=axis))[[0, -1]]) for axis in (1, 0)]


def expected_extent(entry, grid, image_size):
    """Extent of the centre unit's theoretical field within the image."""
    pairs = []
    for axis in range(2):
        centre = entry.offset[axis] + grid[axis] // 2 * entry.stride[axis]
        reach = (entry.size[axis] - 1) / 2
        first, last = centre - reach, centre + reach
        pairs.append((max(first, 0), min(last, image_size[axis] - 1)))
    return pairs


def check(model):
    grid = model.image_size
    for entry, window in zip(receptive_field(model, {}, ones(model)), model.layers, strict=True):
        grid = [math.ceil(length / step) for length, step in zip(grid, window.stride, strict=True)]
        field = entry.effective
        assert field.shape == model.image_size
        assert field.dtype == np.float32
        assert field.min() >= 0
        assert field.max() == 1
        assert extent(field > 0) == expected_extent(entry, grid, model.image_size)
        assert 1 <= entry.effective_size <= math.sqrt(math.prod(entry.size))


@st.composite
def stacks(draw):
    """Kernels are not smaller than strides, so every pixel of the image is covered."""
    strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        stride = draw(strides)
        more = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        layers.append(Window(tuple(map(sum, zip(stride, more, strict=True))), stride))
    return Stack(draw(st.tuples(st.integers(1, 24), st.integers(1, 24))), tuple(layers))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(stacks())
def test_receptive_field_equals_the_support_of_the_gradient(model):
    check(model)


SUBSAMPLING = Window((1, 1), (2, 2))


@pytest.mark.parametrize(
    'layers',
    [
        (SUBSAMPLING, Window((3, 3), (1, 1))),
        (Window((3, 3), (1, 1)), SUBSAMPLING, Window((2, 4), (2, 1))),
    ],
)
def test_receptive_field_bounds_the_gradient_if_pixels_are_skipped(layers):
    check(Stack((21, 30), layers))


@pytest.mark.parametrize(
    ('image_size', 'layers', 'sizes', 'strides', 'offsets'),
    [
        (16, [(3, 1), (3, 1), (3, 1)], [3, 5, 7], [1, 1, 1], [0, 0, 0]),
        (16, [(4, 4), (1, 1)], [4, 4], [4, 4], [1.5, 1.5]),
        (16, [(2, 1), (3, 1)], [2, 4], [1, 1], [0.5, 0.5]),  # more padding at the end
        # Padding of one in total, below and on the right; on an odd map, one on each side.
        (16, [(3, 2), (3, 2)], [3, 7], [2, 4], [1, 3]),
        (17, [(3, 2), (3, 2)], [3, 7], [2, 4], [0, 0]),
        # The root of a ResNet: 7x7 convolution, 3x3 pooling (He et al. 2016, table 1).
        (224, [(7, 2), (3, 2)], [7, 11], [2, 4], [1, 3]),
    ],
)
def test_receptive_field_of_worked_examples(image_size, layers, sizes, strides, offsets):
    model = Stack((image_size,) * 2, tuple(Window((k, k), (s, s)) for k, s in layers))
    entries = receptive_field(model)
    assert [entry.size for entry in entries] == [(size, size) for size in sizes]
    assert [entry.stride for entry in entries] == [(stride, stride) for stride in strides]
    assert [entry.offset for entry in entries] == [(offset, offset) for offset in offsets]
    assert all(entry.effective is None and entry.effective_size is None for entry in entries)


def test_receptive_field_has_no_effective_field_of_other_layers():
    model = Stack((6, 8), (Window((3, 3), (1, 1)),) * 3, stem=1)
    first, *others = receptive_field(model, {}, ones(model))
    whole = receptive_field(model.copy(stem=0), {}, ones(model))
    assert first.effective is None
    assert first.effective_size is None
    for entry, same in zip(others, whole[1:], strict=True):
        np.testing.assert_array_equal(entry.effective, same.effective)


def test_effective_size_counts_pixels_above_the_threshold():
    """Repeated box filters tend to a Gaussian, so the effective share of the field shrinks (section 2)."""
    model = Stack((19, 19), (Window((3, 3), (1, 1)),) * 9)
    shares = [
        entry.effective_size / entry.size[0] for entry in receptive_field(model, {}, ones(model))
    ]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.6


def test_receptive_field_stays_the_image_after_a_global_layer():
    windows = Window((4, 2), (4, 2)), Window(None, (1, 1)), Window((3, 3), (2, 2))
    patches, *others = receptive_field(Stack((16, 10), windows))
    assert patches.size == (4, 2)
    assert [entry.size for entry in others] == [(16, 10)] * 2
    assert [entry.stride for entry in others] == [(4, 2), (8, 4)]


@pytest.mark.parametrize('given', ['variables', 'images'])
def test_receptive_field_needs_both_variables_and_images(given):
    model = Stack((4, 4), (Window((3, 3), (1, 1)),))
    with pytest.raises(ValueError, match='both variables and images'):
        receptive_field(model, **{given: ones(model)})


def randomly(model, change=lambda params: params):
    """Receptive fields of a model with random parameters other than zero."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *model.image_size, model.in_channels))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: np.float32(0.1 * rng.normal(size=leaf.shape)), shapes)
    if 'batch_stats' in variables:
        variables['batch_stats'] = jax.tree.map(np.abs, variables['batch_stats'])
    return receptive_field(model, variables | {'params': change(variables['params'])}, images)


@pytest.mark.parametrize(
    ('name', 'overrides'),
    [
        ('cnn', dict(image_size=(14, 17), widths=(4, 6), norm='none')),
        ('cnn', dict(image_size=(9, 8), widths=(4, 6), norm='batch', kernel_size=2)),
        ('resnet', dict(image_size=(45, 64), stage_depths=(1, 1), width=4, block='basic')),
        ('resnet', dict(image_size=(33, 20), stage_depths=(1, 1), width=4)),
    ],
)
def test_receptive_field_bounds_the_gradient_of_cnns(name, overrides):
    model = create_model(name, **overrides)
    for entry in randomly(model):
        if entry.effective is None:
            assert entry.name == 'root'
            continue
        grid = [math.ceil(n / s) for n, s in zip(model.image_size, entry.stride, strict=True)]
        seen = np.array(extent(entry.effective > 0))
        limits = np.array(expected_extent(entry, grid, model.image_size))
        assert (seen[:, 0] >= limits[:, 0]).all()
        assert (seen[:, 1] <= limits[:, 1]).all()
        assert 1 <= entry.effective_size <= math.sqrt(math.prod(entry.size))


@pytest.mark.parametrize(('name', 'size'), [('resnet18', 435), ('resnet50', 427)])
def test_receptive_field_of_resnets_equals_values_by_hand(name, size):
    """The root has size 11; a 3x3 convolution adds twice its input stride: 4, 8, 16, 32."""
    *_, last = receptive_field(create_model(name))
    assert last.size == (size, size)
    assert last.stride == (32, 32)


VIT = dict(image_size=(12, 15), patch_size=(4, 3), width=8, depth=2, num_heads=2, mlp_dim=8)
HYBRID = VIT | dict(image_size=(32, 48), patch_size=16, stem_depths=(1, 1), stem_width=4)


@pytest.mark.parametrize(
    'overrides',
    [VIT, VIT | dict(pooling='mean', scan=True), VIT | dict(num_registers=2), HYBRID],
    ids=['class token', 'mean', 'registers', 'hybrid'],
)
def test_receptive_field_of_a_vit_is_the_image(overrides):
    model = create_model('vit', **overrides)
    *before, first, second = randomly(model)
    assert all(entry.effective is None for entry in before)
    assert (first.name, second.name) == ('block1', 'block2')
    for entry in first, second:
        assert entry.size == model.image_size
        assert (entry.stride, entry.offset) == (before[-1].stride, before[-1].offset)
        assert (entry.effective > 0).all()


@pytest.mark.parametrize('prefix', [{}, dict(num_registers=3), dict(pooling='mean')])
def test_receptive_field_of_the_patches_of_a_vit(prefix):
    model = create_model('vit', **VIT | prefix)
    patches, *_ = receptive_field(model)
    assert (patches.name, patches.size) == ('patches', (4, 3))
    assert (patches.stride, patches.offset) == ((4, 3), (1.5, 1))

    def blocks_add_nothing(params):
        return params | {'encoder': jax.tree.map(np.zeros_like, params['encoder'])}

    for entry in randomly(model, blocks_add_nothing)[1:]:
        assert extent(entry.effective > 0) == [(4, 7), (6, 8)]  # the middle one of 3x5


def test_receptive_field_of_the_layers_of_a_hybrid():
    layers = receptive_field(create_model('vit', **HYBRID))
    assert [(entry.name, *entry.size, *entry.stride, *entry.offset) for entry in layers] == [
        ('root', 11, 11, 4, 4, 3, 3),
        ('stage1_block1', 19, 19, 4, 4, 3, 3),
        ('stage2_block1', 27, 27, 8, 8, 7, 7),
        ('patches', 35, 35, 16, 16, 11, 11),
        ('block1', 32, 48, 16, 16, 11, 11),
        ('block2', 32, 48, 16, 16, 11, 11),
    ]
