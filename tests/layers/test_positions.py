import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.layers.positions import sincos2d

GRIDS = st.tuples(st.integers(1, 20), st.integers(1, 20))
WIDTHS = st.integers(1, 16).map(lambda quarter: 4 * quarter)


@settings(max_examples=30, deadline=None)
@given(GRIDS, WIDTHS)
def test_every_place_has_its_own(grid, width):
    table = np.asarray(sincos2d(grid, width), np.float64)
    assert table.shape == (grid[0] * grid[1], width)
    distances = np.linalg.norm(table[:, None] - table[None], axis=-1)
    assert (distances + 10 * np.eye(len(table))).min() > 1e-2


@settings(max_examples=30, deadline=None)
@given(GRIDS, WIDTHS)
def test_likeness_depends_on_the_offset_alone(grid, width):
    """sin a sin b + cos a cos b = cos(a - b): the same step looks the same wherever it is made."""
    table = np.asarray(sincos2d(grid, width), np.float64).reshape(*grid, width)
    step = table[:-1, :-1], table[1:, 1:]
    likeness = (step[0] * step[1]).sum(-1)
    assert np.ptp(likeness) < 1e-4 if likeness.size else True
    np.testing.assert_allclose((table**2).sum(-1), width / 2, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(GRIDS, WIDTHS)
def test_rows_and_columns_are_treated_alike(grid, width):
    table = sincos2d(grid, width).reshape(*grid, width)
    turned = sincos2d(grid[::-1], width).reshape(*grid[::-1], width).swapaxes(0, 1)
    np.testing.assert_allclose(table, jnp.roll(turned, width // 2, axis=-1), atol=1e-6)


def test_frequencies_fall_from_one_to_one_over_the_temperature():
    table = sincos2d((1, 2), 12, temperature=100.0)
    np.testing.assert_allclose(table[1, :3], jnp.sin(jnp.array([1, 0.1, 0.01])), rtol=1e-5)


@pytest.mark.parametrize('width', [2, 6, 7])
def test_the_width_must_be_a_multiple_of_four(width):
    with pytest.raises(ValueError, match=f'multiple of 4, not {width}'):
        sincos2d((2, 2), width)
