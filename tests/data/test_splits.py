import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitjax.data.splits import parse_split, spread_classes
from vitjax.errors import UserError


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('train', range(100)),
        ('train[:90%]', range(90)),
        ('train[90%:]', range(90, 100)),
        ('train[10:20]', range(10, 20)),
        ('train[-10:]', range(90, 100)),
        ('train[-10%:-5]', range(90, 95)),
        ('train[:]', range(100)),
        ('train[12.5%:13]', range(12, 13)),
    ],
)
def test_range_of_a_hundred(text, expected):
    (part,) = parse_split(text)
    assert (part.split, part.range(100)) == ('train', expected)


def test_parse_split_keeps_order_of_sums():
    assert [str(part) for part in parse_split('test[5:]+train.tok-2 + test[:5]')] == [
        'test[5:]',
        'train.tok-2',
        'test[:5]',
    ]


@pytest.mark.parametrize('text', ['', 'train[', 'train[1]', 'train[a:b]', 'train+', 'train[%:]'])
def test_parse_split_refuses_malformed_text(text):
    with pytest.raises(UserError, match='is not a split; write'):
        parse_split(text)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('train[:101]', 'past the 100 examples'),
        ('train[-101:]', 'past the 100 examples'),
        ('train[:120%]', 'past the 100 examples'),
        ('train[50:50]', 'is empty'),
        ('train[60%:40%]', 'is empty'),
    ],
)
def test_range_refuses_bounds_outside_the_split(text, message):
    with pytest.raises(UserError, match=message):
        parse_split(text)[0].range(100)


@given(count=st.integers(2, 10_000), cuts=st.lists(st.integers(1, 99), max_size=5, unique=True))
def test_range_of_percentages_partitions_the_split(count, cuts):
    bounds = ['', *(f'{cut}%' for cut in sorted(cuts)), '']
    indices = []
    for start, stop in itertools.pairwise(bounds):
        with contextlib.suppress(UserError):  # of so few examples some percent are none
            indices += parse_split(f'train[{start}:{stop}]')[0].range(count)
    assert indices == list(range(count))


@given(data=st.data(), count=st.integers(1, 1000))
def test_range_equals_python_slice(data, count):
    start, stop = (data.draw(st.none() | st.integers(-count, count)) for _ in range(2))
    text = f'train[{"" if start is None else start}:{"" if stop is None else stop}]'
    # -0 is written as 0, so a negative bound is below 0.
    expected = range(count)[start:stop]
    if len(expected):
        assert parse_split(text)[0].range(count) == expected
    else:
        with pytest.raises(UserError, match='is empty'):
            parse_split(text)[0].range(count)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=200), data=st.data())
def test_spread_classes_is_a_permutation_with_classes_in_proportion(labels, data):
    labels = np.array(labels)
    order = spread_classes(labels)
    assert sorted(order) == list(range(len(labels)))
    stop = data.draw(st.integers(1, len(labels)))
    for label in np.unique(labels):
        share = (labels == label).mean()
        assert abs((labels[order[:stop]] == label).sum() - share * stop) <= 1 + len(set(labels))
