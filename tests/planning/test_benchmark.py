import itertools

import numpy as np
import pytest
from PIL import Image

from vitjax.planning import benchmark


def test_seconds_in_turn_alternates_functions():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in ('first', 'second')}
    seconds = benchmark.seconds_in_turn(functions, 3)
    assert calls == ['first', 'second'] * 3
    assert {name: times.shape for name, times in seconds.items()} == {'first': (3,), 'second': (3,)}
    assert all((times >= 0).all() for times in seconds.values())


def test_seconds_to_import_times_each_statement():
    seconds = benchmark.seconds_to_import({'a': 'import json', 'b': 'import ast, zipfile'}, 1)
    assert seconds.keys() == {'a', 'b'}
    assert all(0 < time < 60 for time in seconds.values())


@pytest.mark.parametrize(
    ('values', 'median', 'spread'),
    [([3.0], 3, 0), ([1.0, 2.0, 3.0, 4.0, 5.0], 3, 2 / 3), ([2.0, 2.0, 2.0, 9.0], 2, 1.75 / 2)],
)
def test_median_and_spread(values, median, spread):
    found = benchmark.median_and_spread(np.array(values))
    assert found == {'median': pytest.approx(median), 'spread': pytest.approx(spread)}


def test_images_per_second_ignores_the_warm_up(monkeypatch):
    """A clock that advances by 1 at each call, and batches of 4: one batch a tick during the measurement."""
    ticks = itertools.count()
    monkeypatch.setattr(benchmark.time, 'perf_counter', lambda: float(next(ticks)))
    batches = iter(lambda: {'image': np.zeros((4, 2, 2, 3), np.uint8)}, None)
    # Batches are counted from tick 10 to tick 19; the call at tick 20 ends it, the last call reads 21.
    assert benchmark.images_per_second(batches, 10) == 4 * 10 / 11


def test_write_photographs_has_the_spectrum_of_photographs(tmp_path):
    benchmark.write_photographs(tmp_path, 3, (60, 80))
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*.jpg'))
    assert files == ['a/0.jpg', 'a/2.jpg', 'b/1.jpg']
    first, second = (np.asarray(Image.open(tmp_path / file), float) for file in files[:2])
    assert first.shape == (60, 80, 3)
    assert (first != second).any()
    # Smooth like photographs: neighbouring pixels differ less than distant ones.
    assert (
        np.abs(np.diff(first, axis=1)).mean() < 0.6 * np.abs(first[:, 40:] - first[:, :40]).mean()
    )
