import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.data.packing import Ragged, Rows, pack

few = settings(max_examples=100, deadline=None)
ROOM = (12, 9)
LENGTHS = st.lists(st.tuples(st.integers(1, ROOM[0]), st.integers(1, ROOM[1])), max_size=300)


def sentences(lengths, side):
    """Sentence n has the tokens 100 n + 1, 100 n + 2 ..., on the other side their negatives."""
    sign = 1 if side == 0 else -1
    return [
        [sign * (100 * number + place) for place in range(1, pair[side] + 1)]
        for number, pair in enumerate(lengths, 1)
    ]


@few
@given(LENGTHS, st.integers(0, 3))
def test_pack_puts_every_pair_in_one_row_that_fits(lengths, seed):
    rows = pack(lengths, ROOM, seed)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    for row in rows:
        assert all(sum(lengths[index][side] for index in row) <= ROOM[side] for side in (0, 1))
    assert rows == pack(lengths, ROOM, seed)


@few
@given(LENGTHS.filter(lambda lengths: 2 <= len(lengths) <= 100))
def test_pack_leaves_no_two_rows_that_fit_into_one(lengths):
    """First fit with all rows open leaves no row that the first sentence of a later one would fit."""
    rows = pack(lengths, ROOM, 0)
    used = [[sum(lengths[index][side] for index in row) for side in (0, 1)] for row in rows]
    for number, row in enumerate(rows):
        for earlier in used[:number]:
            assert any(earlier[side] + lengths[row[0]][side] > ROOM[side] for side in (0, 1))


def test_pack_is_dense_and_fast():
    rng = np.random.default_rng(0)
    lengths = [tuple(pair) for pair in rng.integers(4, 20, (20_000, 2)).tolist()]
    rows = pack(lengths, (64, 65), 0)
    assert np.sum(lengths) / (len(rows) * (64 + 65)) > 0.85


def test_pack_is_a_function_of_seed():
    lengths = [(3, 3)] * 50
    assert pack(lengths, ROOM, 0) != pack(lengths, ROOM, 1)


@few
@given(LENGTHS.filter(len))
def test_rows_hold_tokens_segments_and_positions(lengths):
    sides = [sentences(lengths, side) for side in (0, 1)]
    rows = Rows('rows', *map(Ragged, sides), pack(lengths, ROOM, 0), ROOM)
    found = {'source': [], 'target': []}
    padding = 0
    for index in range(len(rows)):
        example = rows[index]
        for side, name in enumerate(found):
            tokens, segment, position = (
                example[key] for key in (name, f'{name}_segment', f'{name}_position')
            )
            for array in (tokens, segment, position):
                assert array.shape == (ROOM[side],)
                assert array.dtype == np.int32
            np.testing.assert_array_equal(tokens == 0, segment == 0)
            assert not position[segment == 0].any()
            assert (np.diff(segment[segment > 0]) >= 0).all()
            padding += (segment == 0).sum()
            for number in range(1, segment.max() + 1):
                np.testing.assert_array_equal(
                    position[segment == number], np.arange((segment == number).sum())
                )
                found[name].append(tokens[segment == number].tolist())
        assert example['source_segment'].max() == example['target_segment'].max()
    # Sentence and translation keep together, and none is lost.
    for source, target in zip(*found.values(), strict=True):
        assert source[0] == -target[0]
    assert sorted(found['source']) == sides[0]
    assert rows.padding == pytest.approx(padding / (len(rows) * sum(ROOM)))


def test_rows_equal_written_example():
    rows = Rows(
        'some rows', Ragged([[7, 3], [8, 9, 3]]), Ragged([[2, 3], [2, 6, 3]]), [[1, 0]], (7, 5)
    )
    assert {key: value.tolist() for key, value in rows[0].items()} == {
        'source': [8, 9, 3, 7, 3, 0, 0],
        'source_segment': [1, 1, 1, 2, 2, 0, 0],
        'source_position': [0, 1, 2, 0, 1, 0, 0],
        'target': [2, 6, 3, 2, 3],
        'target_segment': [1, 1, 1, 2, 2],
        'target_position': [0, 1, 2, 0, 1],
    }
    assert rows.describe(0) == 'row 0 of some rows'
