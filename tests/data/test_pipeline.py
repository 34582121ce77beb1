import gc
import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.data import pipeline
from vitjax.data.pipeline import eval_batches, train_batches
from vitjax.errors import CorruptExample, UserError

few = settings(max_examples=25, deadline=None)


class Numbers:
    """A source of its indices, some of them unreadable."""

    name, labels = 'numbers', None

    def __init__(self, count, corrupt=()):
        self.count, self.corrupt = count, set(corrupt)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert 0 <= index < self.count
        if index in self.corrupt:
            raise CorruptExample(f'{self.describe(index)}: broken')
        return {'number': index}

    def describe(self, index):
        return f'number {index}'


def transform(example, rng):
    number = np.int32(example['number'] + 1)
    return {'number': number, 'pair': np.array([number, number]), 'random': rng.random()}


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def train(source, steps, start=0, **options):
    iterator = iter(train_batches(source, transform, **({'seed': 0, 'threads': 2} | options)))
    if start:
        iterator.set_state({'step': start})
    batches = take(iterator, steps)
    iterator.close()
    return batches


def joined(batches, key='number'):
    return np.concatenate([batch[key] for batch in batches])


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            np.testing.assert_array_equal(value, other[key])
            assert value.dtype == other[key].dtype


def test_train_batches_stack_examples():
    (batch,) = train(Numbers(50), 1, batch_size=20)
    assert {key: (value.shape, str(value.dtype)) for key, value in batch.items()} == {
        'number': ((20,), 'int32'),
        'pair': ((20, 2), 'int32'),
        'random': ((20,), 'float64'),
        'mask': ((20,), 'bool'),
    }
    assert batch['mask'].all()
    np.testing.assert_array_equal(batch['pair'][:, 0], batch['number'])


@few
@given(count=st.integers(1, 40), batch_size=st.integers(1, 40), epochs=st.integers(1, 3))
def test_train_batches_permute_every_epoch(count, batch_size, epochs):
    steps = -(-count * epochs // batch_size)
    numbers = joined(train(Numbers(count), steps, batch_size=batch_size))
    for epoch in range(epochs):
        assert sorted(numbers[epoch * count : (epoch + 1) * count]) == list(range(1, count + 1))


def test_train_batches_differ_between_epochs_and_seeds():
    drawn = {}
    for seed in range(3):
        batches = train(Numbers(100), 3, batch_size=100, seed=seed)
        drawn |= {(seed, epoch): batch for epoch, batch in enumerate(batches)}
    for key in ('number', 'random'):
        assert len({tuple(batch[key]) for batch in drawn.values()}) == 9
    assert len({value for batch in drawn.values() for value in batch['random']}) == 900


@few
@given(
    count=st.integers(1, 60),
    host_batch=st.integers(1, 20),
    hosts=st.integers(1, 4),
    seed=st.integers(0, 2**40),
)
def test_train_batches_of_hosts_concatenate_to_global_batch(count, host_batch, hosts, seed):
    source = Numbers(count)
    whole = train(source, 3, batch_size=host_batch * hosts, seed=seed)
    shares = [
        train(source, 3, batch_size=host_batch, seed=seed, shard=(host, hosts))
        for host in range(hosts)
    ]
    together = [
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
    assert_same(together, whole)


@few
@given(count=st.integers(1, 60), batch_size=st.integers(1, 40), hosts=st.integers(1, 4))
def test_eval_batches_have_each_example_once(count, batch_size, hosts):
    source = Numbers(count)
    shares = [
        list(eval_batches(source, transform, batch_size=batch_size, shard=(host, hosts), threads=2))
        for host in range(hosts)
    ]
    steps = -(-count // (batch_size * hosts))
    assert [len(batches) for batches in shares] == [steps] * hosts
    in_order = []
    for parts in zip(*shares, strict=True):
        for batch in parts:
            assert {len(value) for value in batch.values()} == {batch_size}
            assert not batch['number'][~batch['mask']].any()
            in_order += batch['number'][batch['mask']].tolist()
    assert in_order == list(range(1, count + 1))


@few
@given(
    count=st.integers(1, 50),
    batch_size=st.integers(1, 40),
    stop=st.integers(0, 6),
    threads=st.integers(1, 4),
)
def test_set_state_equals_uninterrupted(count, batch_size, stop, threads):
    dataset = train_batches(
        Numbers(count), transform, batch_size=batch_size, seed=3, threads=threads
    )
    iterator = iter(dataset)
    take(iterator, stop)
    state = json.loads(json.dumps(iterator.get_state()))
    following = take(iterator, 3)
    fresh = iter(dataset)
    fresh.set_state(state)
    assert_same(take(fresh, 3), following)
    iterator.set_state(state)  # and backwards
    assert_same(take(iterator, 3), following)


def test_set_state_on_another_number_of_hosts():
    source = Numbers(37)
    whole = train(source, 6, batch_size=12)
    for host in range(3):
        part = train(source, 2, start=4, batch_size=4, shard=(host, 3))
        for batch, other in zip(part, whole[4:], strict=True):
            np.testing.assert_array_equal(batch['number'], other['number'][4 * host : 4 * host + 4])


@pytest.mark.parametrize('options', [{'threads': 1}, {'threads': 7}, {'workers': 2}])
def test_train_batches_independent_of_threads_and_workers(options):
    source, steps = Numbers(100, corrupt=[3, 40]), 4
    expected = train(source, steps, batch_size=40, skip_corrupt=True)
    assert_same(train(source, steps, batch_size=40, skip_corrupt=True, **options), expected)


def test_close_frees_shared_memory_of_workers():
    iterator = iter(eval_batches(Numbers(60), transform, batch_size=20, workers=2))
    assert len(list(iterator)) == 3
    iterator.close()
    assert not [x for x in gc.get_objects() if type(x).__name__ == 'SharedMemoryArray']


@pytest.mark.parametrize('options', [{}, {'workers': 1}])
def test_corrupt_example_is_raised_when_its_batch_is_due(options):
    batches = eval_batches(Numbers(60, corrupt=[45]), transform, batch_size=20, **options)
    iterator = iter(batches)
    assert len(take(iterator, 2)) == 2
    with pytest.raises(CorruptExample, match=r'number 45: broken; config.data.skip_corrupt'):
        next(iterator)
    assert iterator.get_state() == {'step': 2}
    iterator.close()


def test_corrupt_examples_are_masked_and_logged_once(caplog):
    pipeline._warn_once.cache_clear()
    source = Numbers(30, corrupt=[0, 4, 5])
    with caplog.at_level(logging.WARNING, logger='vitjax.data.pipeline'):
        batches = train(source, 6, batch_size=10, skip_corrupt=True)
        evaluated = list(eval_batches(source, transform, batch_size=20, skip_corrupt=True))
    assert sorted(record.getMessage() for record in caplog.records) == [
        f'skipped: number {number}: broken' for number in (0, 4, 5)
    ]
    for epoch in (batches[:3], batches[3:], evaluated):
        numbers, mask = joined(epoch), joined(epoch, 'mask')
        assert sorted(numbers[mask]) == sorted(set(range(1, 31)) - {1, 5, 6})
        assert not numbers[~mask].any()


def test_chunk_of_corrupt_examples_only():
    source = Numbers(40, corrupt=range(32))
    (batch,) = eval_batches(source, transform, batch_size=40, skip_corrupt=True)
    np.testing.assert_array_equal(batch['mask'], np.arange(40) >= 32)
    with pytest.raises(UserError, match='numbers: all 40 examples are corrupt'):
        next(iter(train_batches(
            Numbers(40, corrupt=range(40)), transform, batch_size=40, seed=0, skip_corrupt=True
        )))  # fmt: skip


def test_transform_errors_reach_the_caller():
    def broken(example, rng):
        raise UserError('no label')

    with pytest.raises(UserError, match='no label'):
        next(iter(train_batches(Numbers(4), broken, batch_size=2, seed=0)))


def test_transform_errors_name_the_example():
    def refuse(example, rng):
        if example['number'] == 3:
            raise UserError('it is odd')
        return transform(example, rng)

    batches = eval_batches(Numbers(8), refuse, batch_size=4, threads=2)
    with pytest.raises(UserError, match='number 3: it is odd'):
        list(batches)


def test_get_state_excludes_batches_read_ahead():
    iterator = iter(train_batches(Numbers(500), transform, batch_size=4, seed=0, threads=8))
    for step in range(5):
        assert iterator.get_state() == {'step': step}
        next(iterator)
    iterator.close()
