import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params

from vitjax.layers.convolution import (
    ConvBlock,
    Convolution,
    GroupNorm,
    ResidualBlock,
    ResNetBackbone,
    max_pool,
    num_groups,
    resnet_stride,
    resnet_windows,
    standardise,
)

RNG = np.random.default_rng(1)
IMAGES = RNG.normal(size=(2, 5, 6, 3)).astype(np.float32)


def usable(variables):
    """Random variables with variances above 0."""
    return jax.tree.map_with_path(
        lambda path, leaf: abs(leaf) + 0.1 if path[-1].key == 'var' else leaf, variables
    )


def test_receptive_field_of_two_convolutions(random_variables):
    """x1 ... x6 -> r1 ... r6 -> p1 ... p4, each from three neighbours; p1 from x1 ... x4."""
    first = ConvBlock(2, (3,), norm='none', relu=False)
    second = ConvBlock(1, (3,), padding='VALID', norm='none', relu=False)
    x = np.arange(1.0, 7).reshape(1, 6, 1)
    r = random_variables(first, x)
    p = random_variables(second, np.zeros((1, 6, 2)))

    def layers(x):
        hidden = first.apply(r, x)
        assert hidden.shape == (1, 6, 2)
        return second.apply(p, hidden)[0, :, 0]

    jacobian = jax.jacobian(layers)(x)[:, 0, :, 0]
    assert (jacobian != 0).astype(int).tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1],
    ]


KERNELS = st.tuples(st.integers(1, 4), st.integers(2, 4), st.integers(1, 3), st.integers(1, 5))


@settings(max_examples=25, deadline=None)
@given(shape=KERNELS, seed=st.integers(0, 99), factor=st.floats(0.1, 10), shift=st.floats(-3, 3))
def test_standardise_gives_mean_0_and_deviation_1(shape, seed, factor, shift):
    kernel = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    kernel[0, 0, 0] += 1  # no filter is constant
    kernel[0, 1, 0] -= 1
    found = standardise(kernel)
    np.testing.assert_allclose(found.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(found.std((0, 1, 2)), 1, atol=1e-2)
    # Neither scale nor offset of a filter matters.
    np.testing.assert_allclose(standardise(factor * kernel + shift), found, atol=1e-2)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shape', [(3, 7, 4), (3, 5, 6, 4), (3, 2, 3, 4, 4), (3, 1, 1, 4)])
def test_group_norm_and_its_gradient_equal_flax(shape, dtype, random_variables):
    x = (3 + RNG.normal(size=shape)).astype(dtype)
    y = RNG.normal(size=shape).astype(np.float32)
    variables = random_variables(GroupNorm(2), x)

    def learn(norm):
        loss = lambda variables, x: (norm.apply(variables, x) * y).sum()  # noqa: E731
        return norm.apply(variables, x), jax.grad(loss, (0, 1))(variables, x)

    found, expected = learn(GroupNorm(2, dtype=dtype)), learn(nn.GroupNorm(2, dtype=dtype))
    assert found[0].dtype == dtype
    tolerance = 1e-4 if dtype == 'float32' else 0.05
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a.astype(np.float32), b.astype(np.float32), tolerance, tolerance
        ),
        found,
        expected,
    )


CASES = pytest.mark.parametrize(
    ('spatial', 'kernel', 'stride', 'padding', 'expected'),
    [
        ((7,), (3,), 1, 'SAME', (7,)),
        ((7,), (3,), 2, 'SAME', (4,)),
        ((7,), (4,), 1, 'VALID', (4,)),
        ((5, 6), (3, 3), 1, 'SAME', (5, 6)),
        ((5, 6), (3, 2), 2, 'SAME', (3, 3)),
        ((5, 6), (1, 3), 2, 'VALID', (3, 2)),
        ((3, 4, 5), (2, 1, 3), 1, 'SAME', (3, 4, 5)),
        ((5, 6), (1, 1), 1, 'SAME', (5, 6)),
        ((5, 6), (1, 1), 2, 'VALID', (3, 3)),
        ((7,), (1,), 3, 'SAME', (3,)),
    ],
)


@CASES
@pytest.mark.parametrize('standardised', [False, True])
def test_convolution_of_one_to_three_spatial_axes(
    spatial, kernel, stride, padding, expected, standardised, random_variables
):
    x = RNG.normal(size=(2, *spatial, 3)).astype(np.float32)
    layer = Convolution(4, kernel, stride, padding, standardised=standardised)
    variables = random_variables(layer, x)
    found = layer.apply(variables, x)
    assert found.shape == (2, *expected, 4)
    params = dict(variables['params'])
    if standardised:
        params['kernel'] = standardise(params['kernel'])
    same = nn.Conv(4, kernel, strides=stride, padding=padding)
    np.testing.assert_allclose(found, same.apply({'params': params}, x), atol=1e-4)


@pytest.mark.parametrize('spatial', [(7,), (5, 6), (1, 8), (3, 4, 5)])
@pytest.mark.parametrize(('size', 'stride'), [(3, 2), (2, 2), (3, 1), (2, 3), (1, 2)])
def test_max_pool_equals_flax(spatial, size, stride):
    """It, and its gradient, are those of a window that moves over the map."""
    x = RNG.normal(size=(2, *spatial, 3)).astype(np.float32) - 3  # below zero
    window = (size,) * len(spatial), (stride,) * len(spatial), 'SAME'
    expected, pull = jax.vjp(lambda x: nn.max_pool(x, *window), x)
    found, same_pull = jax.vjp(lambda x: max_pool(x, size, stride), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(same_pull(expected)[0], pull(expected)[0], rtol=1e-6)


def test_kernel_with_one_input_value_is_not_standardised(random_variables):
    x = IMAGES[..., :1]
    layer = Convolution(4, (1, 1), standardised=True)
    variables = random_variables(layer, x)
    expected = x * variables['params']['kernel'][0, 0] + variables['params']['bias']
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize('norm', ['group', 'batch', 'none'])
@pytest.mark.parametrize(('spatial', 'shift'), [((12,), (3,)), ((9, 10), (2, -3))])
def test_convolution_is_translation_equivariant(norm, spatial, shift, random_variables):
    x = np.zeros((2, *spatial, 3), np.float32)
    middle = tuple(slice(4, 6) for _ in spatial)
    x[(slice(None), *middle)] = RNG.normal(size=(2, *(2,) * len(spatial), 3))
    layer = ConvBlock(4, (3,) * len(spatial), norm=norm)
    variables = usable(random_variables(layer, x))
    axes = tuple(range(1, 1 + len(spatial)))
    moved = layer.apply(variables, np.roll(x, shift, axes))
    np.testing.assert_allclose(
        moved, np.roll(layer.apply(variables, x), shift, axes), atol=1e-4, rtol=1e-4
    )
    assert np.ptp(moved) > 0.1


@given(channels=st.integers(1, 300))
def test_num_groups(channels):
    groups = num_groups(channels)
    assert 1 <= groups <= 32
    assert channels % groups == 0
    assert groups == 1 or channels >= 2 * groups


@pytest.mark.parametrize(
    ('channels', 'groups'),
    [(1, 1), (2, 1), (8, 4), (13, 1), (32, 16), (48, 24), (64, 32), (256, 32)],
)
def test_num_groups_is_32_where_possible(channels, groups):
    assert num_groups(channels) == groups


def test_group_norm_is_independent_of_other_examples(random_variables):
    layer = ConvBlock(4, (3, 3), relu=False)
    params = random_variables(layer, IMAGES)['params']
    params['norm'] = {'scale': np.ones(4), 'bias': np.zeros(4)}
    found = np.asarray(layer.apply({'params': params}, IMAGES))
    groups = found.reshape(2, 30, 2, 2)
    np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std((1, 3)), 1, atol=1e-4)
    alone = layer.apply({'params': params}, IMAGES[1:])
    np.testing.assert_allclose(alone, found[1:], atol=1e-5)


def test_batch_norm_uses_batch_statistics_only_in_training(random_variables):
    layer = ConvBlock(4, (3, 3), norm='batch', relu=False)
    variables = usable(random_variables(layer, IMAGES))
    params, before = variables['params'], variables['batch_stats']['norm']
    params['norm'] = {'scale': np.ones(4), 'bias': np.zeros(4)}

    trained, changed = layer.apply(variables, IMAGES, train=True, mutable=['batch_stats'])
    np.testing.assert_allclose(trained.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(trained.std((0, 1, 2)), 1, atol=1e-4)
    convolved = Convolution(4, (3, 3), use_bias=False).apply(
        {'params': params['convolution']}, IMAGES
    )
    for name, value in (('mean', convolved.mean((0, 1, 2))), ('var', convolved.var((0, 1, 2)))):
        expected = 0.9 * before[name] + 0.1 * value
        after = changed['batch_stats']['norm'][name]
        np.testing.assert_allclose(after, expected, rtol=1e-4)

    used, unchanged = layer.apply(variables, IMAGES, mutable=['batch_stats'])
    jax.tree.map(np.testing.assert_array_equal, unchanged['batch_stats']['norm'], before)
    expected = (convolved - before['mean']) / np.sqrt(before['var'] + 1e-5)
    np.testing.assert_allclose(used, expected, atol=1e-3)
    np.testing.assert_allclose(layer.apply(variables, IMAGES[1:]), used[1:], atol=1e-5)


@pytest.mark.parametrize('norm', ['group', 'batch', 'none'])
def test_bfloat16_keeps_parameters_and_statistics_in_float32(norm):
    layer = ConvBlock(4, (3, 3), norm=norm, dtype=jnp.bfloat16)
    out, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), IMAGES)
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}
    apply = jax.make_jaxpr(lambda v, x: layer.apply(v, x, train=True, mutable=['batch_stats']))
    dtypes = {}
    for equation in equations(apply(variables, IMAGES).jaxpr):
        operands = {str(operand.aval.dtype) for operand in equation.invars}
        dtypes.setdefault(equation.primitive.name, set()).update(operands)
    assert dtypes['conv_general_dilated'] == {'bfloat16'}
    assert dtypes.get('rsqrt', {'float32'}) == {'float32'}
    assert dtypes.get('reduce_sum', {'float32'}) == {'float32'}


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


@pytest.mark.parametrize('norm', ['group', 'batch'])
@pytest.mark.parametrize(
    ('kind', 'width', 'stride', 'expected', 'projects'),
    [
        ('basic', 8, 1, (2, 5, 6, 8), False),
        ('basic', 8, 2, (2, 3, 3, 8), True),
        ('basic', 4, 1, (2, 5, 6, 4), True),
        ('bottleneck', 2, 1, (2, 5, 6, 8), False),
        ('bottleneck', 2, 2, (2, 3, 3, 8), True),
        ('bottleneck', 3, 1, (2, 5, 6, 12), True),
    ],
)
def test_residual_block_starts_as_its_shortcut(norm, kind, width, stride, expected, projects):
    x = RNG.normal(size=(2, 5, 6, 8)).astype(np.float32)
    block = ResidualBlock(width, kind, stride, norm)
    found, variables = jax.jit(block.init_with_output)(jax.random.key(0), x)
    params = variables['params']
    assert found.shape == expected
    assert ('projection' in params) == projects
    shortcut = x
    if projects:
        layer = ConvBlock(expected[-1], (1, 1), stride, norm=norm, relu=False)
        inner = {name: value['projection'] for name, value in variables.items()}
        shortcut = jax.jit(layer.apply)(inner, x)
    np.testing.assert_allclose(found, nn.relu(shortcut), atol=1e-5)
    names = {'basic': 2, 'bottleneck': 3}
    scales = [params[f'conv{i + 1}']['norm']['scale'] for i in range(names[kind])]
    assert [bool(scale.any()) for scale in scales] == [True] * (names[kind] - 1) + [False]


def test_bottleneck_has_its_stride_in_the_3x3_convolution():
    windows = resnet_windows((1, 1), 'bottleneck')
    assert [window.stride for window in windows['stage1_block1']] == [(1, 1)] * 3
    assert [window.stride for window in windows['stage2_block1']] == [(1, 1), (2, 2), (1, 1)]
    assert [window.kernel for window in windows['stage2_block1']] == [(1, 1), (3, 3), (1, 1)]


@pytest.mark.parametrize('size', [(64, 64), (40, 70), (1, 3)])
@pytest.mark.parametrize('depths', [(), (1,), (2, 1), (1, 1, 1, 1)])
def test_resnet_backbone_shapes(size, depths):
    backbone = ResNetBackbone(depths, width=2)
    maps, _ = jax.eval_shape(backbone.init_with_output, jax.random.key(0), np.zeros((3, *size, 1)))
    windows = resnet_windows(depths, 'bottleneck')
    assert len(maps) == len(windows) == 1 + sum(depths)
    for found, steps in zip(maps, windows.values(), strict=True):
        for window in steps:
            size = [-(-length // step) for length, step in zip(size, window.stride, strict=True)]
        assert found.shape[1:3] == tuple(size)
    strides = [window.stride[0] for steps in windows.values() for window in steps]
    assert np.prod(strides) == resnet_stride(depths)


@pytest.mark.parametrize('kernel', [(), (1, 1, 1, 1)])
def test_convolution_refuses_other_numbers_of_spatial_axes(kernel):
    x = np.zeros((1, *kernel, 2), np.float32)
    with pytest.raises(ValueError, match='must have one, two or three axes'):
        jax.eval_shape(Convolution(4, kernel).init, jax.random.key(0), x)
