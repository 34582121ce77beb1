import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vitjax.data import boxes

sides = st.integers(1, 60)


@given(st.integers(1, 2000), st.integers(1, 2000), st.tuples(sides, sides))
@example(492, 640, (224, 224))  # 224 * (492 / 224) is a hair above 492
def test_central_box_fits_in_image(height, width, size):
    top, left, inner_height, inner_width = boxes.central_box(height, width, size)
    assert top >= 0
    assert left >= 0
    assert inner_height <= height
    assert inner_width <= width


@given(height=sides, width=sides, size=st.tuples(sides, sides), crop=st.floats(0.1, 1))
def test_central_box(height, width, size, crop):
    top, left, inner_height, inner_width = boxes.central_box(height, width, size, crop)
    assert inner_height / inner_width == pytest.approx(size[0] / size[1])
    assert max(inner_height / height, inner_width / width) == pytest.approx(crop)
    assert (top + inner_height / 2, left + inner_width / 2) == pytest.approx(
        (height / 2, width / 2)
    )


@given(height=sides, width=sides, seed=st.integers(0, 1000), low=st.floats(0.05, 1))
def test_random_box_fits_in_image(height, width, seed, low):
    rng = np.random.default_rng(seed)
    top, left, inner_height, inner_width = boxes.random_box(height, width, rng, (low, 1.0))
    assert top >= 0
    assert left >= 0
    assert 0 < inner_height <= height - top + 1e-9
    assert 0 < inner_width <= width - left + 1e-9


def test_random_box_keeps_area_and_aspect():
    rng = np.random.default_rng(0)
    drawn = [boxes.random_box(480, 640, rng, (0.2, 0.5), (0.8, 1.25)) for _ in range(500)]
    height, width = np.array(drawn)[:, 2:].T
    area, aspect = height * width / (480 * 640), width / height
    assert 0.19 < area.min() < 0.25
    assert 0.45 < area.max() < 0.51
    assert 0.79 < aspect.min() < 0.85
    assert 1.18 < aspect.max() < 1.27


@given(
    whole=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    size=st.tuples(sides, sides),
    crop=st.floats(0.1, 1),
    gap=st.floats(1, 2),
)
def test_least_size_gives_box_gap_times_size(whole, size, crop, gap):
    box = boxes.central_box(*whole, size, crop)
    least = boxes.least_size(whole, box, size, gap)
    for side, part, wanted in zip(least, boxes.scaled(box, whole, least)[2:], size, strict=True):
        assert part >= gap * wanted * (1 - 1e-9)
        assert part * (side - 1) / side < gap * wanted * (1 + 1e-9)
