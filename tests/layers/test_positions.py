import numpy as np
import pytest

from vitjax.layers.positions import sincos2d

TABLE = pytest.mark.parametrize(
    ('grid', 'width'), [((1, 1), 4), ((7, 7), 4), ((3, 20), 16), ((14, 14), 192)]
)


@TABLE
def test_every_place_has_its_own(grid, width):
    table = np.asarray(sincos2d(grid, width))
    assert table.shape == (grid[0] * grid[1], width)
    distances = np.linalg.norm(table[:, None] - table[None], axis=-1)
    assert (distances + 10 * np.eye(len(table))).min() > 0.1


@TABLE
def test_the_same_step_looks_the_same_wherever_it_is_made(grid, width):
    table = np.asarray(sincos2d(grid, width), np.float64).reshape(*grid, width)
    np.testing.assert_allclose((table**2).sum(-1), width / 2, rtol=1e-5)
    for rows, columns in [(0, 1), (1, 0), (1, 2)]:
        start, end = table[: grid[0] - rows, : grid[1] - columns], table[rows:, columns:]
        likeness = (start * end).sum(-1)
        assert likeness.size == 0 or np.ptp(likeness) < 1e-4


@pytest.mark.parametrize(('grid', 'width'), [((3, 5), 8)])
def test_the_first_half_tells_the_column_the_second_the_row(grid, width):
    table = np.asarray(sincos2d(grid, width)).reshape(*grid, width)
    column, row = np.split(table, 2, axis=-1)
    assert not np.ptp(column, axis=0).any()
    assert not np.ptp(row, axis=1).any()
    np.testing.assert_array_equal(column[0, :3], row[:, 0])


def test_frequencies_fall_from_one_to_one_over_the_temperature():
    table = sincos2d((1, 2), 12, temperature=100.0)
    np.testing.assert_allclose(table[1, :3], np.sin([1, 0.1, 0.01]), rtol=1e-5)


@pytest.mark.parametrize('width', [2, 6, 7])
def test_the_width_must_be_a_multiple_of_four(width):
    with pytest.raises(ValueError, match=f'multiple of 4, not {width}'):
        sincos2d((2, 2), width)
