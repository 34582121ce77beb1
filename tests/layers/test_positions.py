import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.layers.positions import axial_angles, rotary_angles, rotate, sincos2d, sinusoidal

# A position of any token, and one so far that float32 would lose it.
POSITIONS = st.integers(0, 1_000_000)
STEPS = st.integers(-1000, 1000)
WIDTHS = st.sampled_from([2, 8, 64])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_sinusoidal_equals_the_formula():
    expected = np.zeros((9, 6))
    for position in range(9):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            expected[position, 2 * i] = np.sin(angle)
            expected[position, 2 * i + 1] = np.cos(angle)
    table = sinusoidal(9, 6)
    assert table.dtype == jnp.float32
    np.testing.assert_allclose(table, expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(position=POSITIONS, step=STEPS, width=WIDTHS)
def test_sinusoidal_shift_is_a_rotation(position, step, width):
    """PE(p + k) is a linear function of PE(p) that depends on k alone: each pair turns."""
    start, end = np.asarray(sinusoidal(np.array([position, position + step]), width), np.float64)
    angles = step / 10_000 ** (np.arange(0, width, 2) / width)
    turn = np.zeros((width, width))
    for i, angle in enumerate(angles):
        pair = slice(2 * i, 2 * i + 2)
        turn[pair, pair] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    np.testing.assert_allclose(end, turn @ start, atol=1e-3)


def test_sinusoidal_is_exact_at_large_positions():
    assert sinusoidal(1_000_000, 2).shape == (1_000_000, 2)
    far = np.array([[0, 1023, 1024], [99_999, 999_999, 1_000_000]])
    frequencies = 10_000.0 ** -(np.arange(0, 16, 2) / 16)
    angles = far[..., None] * frequencies
    for table in (sinusoidal(far, 16), jax.jit(sinusoidal, static_argnums=1)(far, 16)):
        assert table.shape == (2, 3, 16)
        np.testing.assert_allclose(table[..., ::2], np.sin(angles), atol=1e-3)
        np.testing.assert_allclose(table[..., 1::2], np.cos(angles), atol=1e-3)


def test_sinusoidal_of_fractional_and_negative_positions():
    angles = rotary_angles(np.array([-2.5, 0.25]), 4, temperature=100.0)
    expected = np.array([[-2.5, -0.25], [0.25, 0.025]])
    np.testing.assert_allclose(np.exp(1j * np.asarray(angles)), np.exp(1j * expected), atol=1e-4)


TABLE = pytest.mark.parametrize(
    ('grid', 'width'), [((1, 1), 4), ((7, 7), 4), ((3, 20), 16), ((14, 14), 192)]
)
VARIANT = pytest.mark.parametrize('variant', ['simple_vit', 'mae'])


@VARIANT
@TABLE
def test_fixed_positions_are_distinct(grid, width, variant):
    table = np.asarray(sincos2d(grid, width, variant=variant))
    assert table.shape == (grid[0] * grid[1], width)
    distances = np.linalg.norm(table[:, None] - table[None], axis=-1)
    assert (distances + 10 * np.eye(len(table))).min() > 0.1


@VARIANT
@TABLE
def test_sincos2d_similarity_depends_on_the_difference_of_positions(grid, width, variant):
    table = np.asarray(sincos2d(grid, width, variant=variant), np.float64).reshape(*grid, width)
    np.testing.assert_allclose((table**2).sum(-1), width / 2, rtol=1e-5)
    for rows, columns in [(0, 1), (1, 0), (1, 2)]:
        start, end = table[: grid[0] - rows, : grid[1] - columns], table[rows:, columns:]
        likeness = (start * end).sum(-1)
        assert likeness.size == 0 or np.ptp(likeness) < 1e-4


@pytest.mark.parametrize(('grid', 'width'), [((3, 5), 8)])
def test_sincos2d_has_columns_in_the_first_half_and_rows_in_the_second(grid, width):
    table = np.asarray(sincos2d(grid, width)).reshape(*grid, width)
    column, row = np.split(table, 2, axis=-1)
    assert not np.ptp(column, axis=0).any()
    assert not np.ptp(row, axis=1).any()
    np.testing.assert_array_equal(column[0, :3], row[:, 0])


@pytest.mark.parametrize(
    ('variant', 'frequencies'),
    [('simple_vit', [1, 0.1, 0.01]), ('mae', [1, 100 ** (-1 / 3), 100 ** (-2 / 3)])],
)
def test_sincos2d_frequencies_of_both_variants(variant, frequencies):
    table = sincos2d((1, 2), 12, variant=variant, temperature=100.0)
    np.testing.assert_allclose(table[1, :3], np.sin(frequencies), rtol=1e-5)
    np.testing.assert_allclose(table[1, 3:6], np.cos(frequencies), rtol=1e-5)


def scores(query, key, query_angles, key_angles):
    return rotate(query, query_angles) @ rotate(key, key_angles).swapaxes(-1, -2)


@settings(max_examples=40, deadline=None)
@given(
    positions=st.lists(POSITIONS, min_size=3, max_size=3),
    other=POSITIONS,
    shift=POSITIONS,
    width=WIDTHS,
)
def test_rotary_scores_depend_only_on_the_difference_of_positions(positions, other, shift, width):
    query, key = normal(3, width), normal(1, width, seed=1)

    def at(shift):
        angles = [rotary_angles(np.array(p) + shift, width) for p in (positions, [other])]
        return scores(query, key, *angles)

    np.testing.assert_allclose(at(shift), at(0), atol=1e-2)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 4), columns=st.integers(0, 4))
def test_axial_scores_depend_only_on_the_differences_of_rows_and_columns(rows, columns):
    grid, width = (7, 8), 16
    angles = axial_angles(grid, width).reshape(*grid, width // 2)
    query, key = normal(12, width), normal(12, width, seed=1)
    at_origin = angles[:3, :4].reshape(12, -1)
    shifted = angles[rows : rows + 3, columns : columns + 4].reshape(12, -1)
    np.testing.assert_allclose(
        scores(query, key, shifted, shifted), scores(query, key, at_origin, at_origin), atol=1e-4
    )


def test_axial_scores_distinguish_rows_columns_and_direction():
    query, key = normal(1, 8), normal(9, 8, seed=1)[:1].repeat(9, 0)
    angles = axial_angles((3, 3), 8)
    found = np.asarray(scores(query, key, angles[4:5], angles))[0]
    assert np.abs(found[:, None] - found + np.eye(9)).min() > 1e-3


def test_axial_angles_rotate_half_of_the_pairs_by_column_and_half_by_row():
    """theta_t = 100^(-t / (d / 4))."""
    angles = axial_angles((2, 3), 8).reshape(2, 3, 4)
    frequencies = np.array([1, 0.1])
    for row in range(2):
        for column in range(3):
            expected = np.concatenate([column * frequencies, row * frequencies])
            np.testing.assert_allclose(angles[row, column], expected, rtol=1e-6)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_rotate_equals_complex_multiplication(dtype):
    x = jnp.asarray(normal(2, 3, 5, 6), dtype)
    angles = normal(5, 3, seed=1)
    turned = rotate(x, angles)
    assert (turned.dtype, turned.shape) == (dtype, x.shape)
    x, turned = (np.asarray(array, np.float32) for array in (x, turned))
    pairs = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.03
    np.testing.assert_allclose(turned[..., ::2], pairs.real, atol=tolerance)
    np.testing.assert_allclose(turned[..., 1::2], pairs.imag, atol=tolerance)
    norms = [np.linalg.norm(array, axis=-1) for array in (turned, x)]
    np.testing.assert_allclose(*norms, rtol=tolerance)


def test_rotate_by_zero_is_the_identity():
    x = normal(2, 3, 5, 6)
    np.testing.assert_array_equal(rotate(x, np.zeros((5, 3))), x)


def test_rotary_angles_of_traced_positions():
    together = rotary_angles(np.arange(5), 8)
    one = jax.jit(lambda position: rotary_angles(position, 8))
    for position in range(5):
        np.testing.assert_array_equal(one(position), together[position])


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: sinusoidal(3, 5), 'an even width, not 5'),
        (lambda: sincos2d((2, 2), 2), 'multiple of 4, not 2'),
        (lambda: sincos2d((2, 2), 6, variant='mae'), 'multiple of 4, not 6'),
        (lambda: rotary_angles(np.arange(3), 7), 'an even width, not 7'),
        (lambda: axial_angles((2, 2), 6), 'multiple of 4, not 6'),
        (
            lambda: rotate(np.zeros((1, 2, 3, 8)), np.zeros((3, 8))),
            r'angles \[3, 8\] do not fit 3 tokens of width 8: \[3, 4\] are needed',
        ),
        (lambda: rotate(np.zeros((1, 2, 3, 8)), np.zeros((1, 4))), r'\[3, 4\] are needed'),
        (lambda: rotate(np.zeros((1, 2, 3, 7)), np.zeros((3, 3))), 'tokens of width 7'),
    ],
)
def test_positions_refuse_sizes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
