import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.layers.resampling import KERNELS, resample, resize_matrix

METHOD = pytest.mark.parametrize('method', KERNELS)
LENGTH = st.integers(1, 40)
GRIDS = pytest.mark.parametrize(
    ('old', 'new'),
    [
        ((7, 7), (14, 14)),
        ((14, 14), (5, 9)),
        ((4, 8), (8, 4)),
        ((1, 6), (3, 1)),
        ((16, 3), (16, 5)),
    ],
)


def table(grid, seed=0):
    return np.random.default_rng(seed).normal(size=(grid[0] * grid[1], 3)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(old=LENGTH, new=LENGTH, method=st.sampled_from(list(KERNELS)))
def test_resize_matrix_keeps_constants_and_is_symmetric(old, new, method):
    matrix = resize_matrix(old, new, method)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-12)
    # 'cubic_offset' has its offset at the end; a single pixel cannot lie on both corners.
    if method != 'cubic_offset' and not (method == 'linear_corners' and new == 1):
        np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-12)


def test_linear_corners_of_length_one_is_the_first_pixel_as_in_scipy():
    values = np.array([3.0, 5.0, 9.0])
    found = resize_matrix(3, 1, 'linear_corners') @ values
    np.testing.assert_array_equal(found, scipy.ndimage.zoom(values, 1 / 3, order=1))


@settings(max_examples=30, deadline=None)
@given(length=LENGTH, method=st.sampled_from(sorted(KERNELS.keys() - {'cubic_offset'})))
def test_resize_matrix_of_equal_lengths_is_the_identity(length, method):
    np.testing.assert_array_equal(resize_matrix(length, length, method), np.eye(length))


@METHOD
def test_resample_to_the_same_grid_returns_the_table_unchanged(method):
    unchanged = table((4, 6))
    assert resample(unchanged, (4, 6), (4, 6), method) is unchanged


@METHOD
def test_resample_to_a_grid_of_equal_size_but_other_shape_changes_the_table(method):
    unchanged = table((4, 8))
    found = resample(unchanged, (4, 8), (8, 4), method)
    assert found.shape == unchanged.shape
    assert np.abs(found - unchanged).max() > 0.1


@METHOD
def test_resample_is_separable_in_rows_and_columns(method):
    """What varies along one axis alone is resized along that axis alone."""
    line = table((1, 7))
    expected = resize_matrix(7, 4, method) @ line
    tall = resample(line.repeat(3, 0), (7, 3), (4, 5), method)
    np.testing.assert_allclose(tall.reshape(4, 5, 3), expected[:, None].repeat(5, 1), atol=1e-5)
    wide = resample(np.tile(line, (3, 1)), (3, 7), (5, 4), method)
    np.testing.assert_allclose(wide.reshape(5, 4, 3), expected[None].repeat(5, 0), atol=1e-5)


@METHOD
def test_resample_keeps_leading_axes_and_dtype(method):
    tables = np.stack([table((2, 3)), table((2, 3), seed=1)])[:, None]
    found = resample(jnp.asarray(tables, jnp.bfloat16), (2, 3), (4, 4), method)
    assert (found.shape, found.dtype) == ((2, 1, 16, 3), jnp.bfloat16)
    for one, expected in zip(found, tables, strict=True):
        expected = resample(expected, (2, 3), (4, 4), method)
        np.testing.assert_allclose(np.asarray(one, np.float32), expected, atol=0.05)


@GRIDS
@pytest.mark.parametrize(
    ('method', 'name', 'antialias'),
    [
        ('cubic_antialias', 'cubic', True),
        ('linear_antialias', 'linear', True),
        ('linear', 'linear', False),
    ],
)
def test_resize_matrix_equals_jax(old, new, method, name, antialias):
    grid = table(old).reshape(*old, 3)
    expected = jax.image.resize(grid, (*new, 3), name, antialias=antialias)
    found = resample(table(old), old, new, method)
    np.testing.assert_allclose(found.reshape(*new, 3), expected, atol=1e-5)


@GRIDS
def test_linear_corners_equals_scipy(old, new):
    zoom = new[0] / old[0], new[1] / old[1], 1
    expected = scipy.ndimage.zoom(table(old).reshape(*old, 3), zoom, order=1)
    found = resample(table(old), old, new, 'linear_corners')
    np.testing.assert_allclose(found.reshape(*new, 3), expected, atol=1e-5)


@pytest.mark.parametrize(('old', 'new'), [(16, 30), (28, 14)])
def test_linear_corners_keeps_the_last_row_that_scipy_loses(old, new):
    line = table((old, 1))
    expected = scipy.ndimage.zoom(line, (new / old, 1), order=1)
    found = resample(line, (old, 1), (new, 1), 'linear_corners')
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=1e-5)
    np.testing.assert_allclose(found[-1], line[-1], atol=1e-5)


# torch.nn.functional.interpolate(x, mode='bicubic') of torch 2.13.0 in float64, with size=new for
# 'cubic' and scale_factor=(new + 0.1) / old for 'cubic_offset'.
LINE = [1, -2, 4, 0, 3]
MAP = [[1, -2, 4], [0, 3, -1]]
TORCH = [
    ('cubic', LINE, (3, 1), [-0.277778, 4.0, 1.833333]),
    (
        *('cubic', LINE, (8, 1)),
        [1.278503, -0.773926, -1.814514, 2.537903, 3.344177, 0.091614, 1.387573, 3.278503],
    ),
    ('cubic', MAP, (3, 2), [0.047662, 2.754205, 0.464844, 1.273438, 0.882026, -0.20733]),
    ('cubic_offset', LINE, (3, 1), [-0.150748, 3.800438, 1.259474]),
    (
        *('cubic_offset', LINE, (8, 1)),
        [1.281541, -0.71926, -1.881038, 2.343966, 3.504672, 0.200737, 1.176146, 3.220951],
    ),
    ('cubic_offset', MAP, (3, 2), [0.229852, 1.881213, 0.457997, 1.20364, 0.706389, 0.465933]),
]


@pytest.mark.parametrize(('method', 'old', 'new', 'expected'), TORCH)
def test_resample_equals_torch(method, old, new, expected):
    old = np.array(old, np.float32).reshape(len(old), -1)
    found = resample(old.reshape(-1, 1), old.shape, new, method)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_cubic_offset_changes_a_side_of_equal_length():
    expected = [1.021628, -2.056597, 3.896805, 0.105159, 2.763688]  # torch 2.13.0, as above
    np.testing.assert_allclose(resize_matrix(5, 5, 'cubic_offset') @ LINE, expected, atol=1e-5)


@pytest.mark.parametrize(
    ('grids', 'method', 'message'),
    [
        (((2, 3), (4, 4)), 'bicubic', "unknown method 'bicubic'; did you mean 'cubic'"),
        (((2, 2), (4, 4)), 'cubic', 'a table of 6 positions is not one of a grid of 2x2'),
        (((2, 3), (0, 4)), 'cubic', 'lengths must be at least 1, not 2 and 0'),
    ],
)
def test_resample_refuses_invalid_arguments(grids, method, message):
    with pytest.raises(ValueError, match=message):
        resample(table((2, 3)), *grids, method)
