"""Batches from a source: endless and shuffled for training, each example once for evaluation.

A batch is a dict of the stacked arrays that the transform returns, and `'mask'`, bool [B], which is False
for padding and for corrupt examples that are skipped; their values are zeros. All batches have the same
shapes. The content of a global batch is a function of source, seed and step only; the numbers of threads,
workers and hosts do not change it. Host k of K gets the k-th of K equal parts.

Grain reads ahead in threads or worker processes. Order, random numbers and iterator state are vitjax's own,
see docs/decisions.md.
"""

import dataclasses
import functools
import gc
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from vitjax.errors import CorruptExample, UserError
from vitjax.protocols import Source

logger = logging.getLogger(__name__)

Transform = Callable[[Mapping[str, Any], np.random.Generator], Mapping[str, np.ndarray]]

# Number of examples that a thread makes at a time: large enough that the overhead of a task is small,
# small enough that several threads work on the next batch.
_CHUNK_SIZE = 16


def train_batches(
    source: Source,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    skip_corrupt: bool = False,
    threads: int | None = None,
    workers: int = 0,
) -> grain.IterDataset:
    """Endless batches; every epoch is a new permutation, and a batch may contain the end of one epoch
    and the start of the next.

    The random numbers of an example are a function of seed, epoch and index of the example.

    Args:
      source: the examples.
      transform: (example, random generator) -> dict of arrays of fixed shapes.
      batch_size: B, number of examples in a batch of this host.
      seed: at least 0.
      shard: (index of this host, number of hosts).
      skip_corrupt: masks corrupt examples and logs each once, instead of raising.
      threads: number of threads that read and transform; None: number of cores + 1.
      workers: if above 0, this number of processes read and transform instead of threads.

    Returns:
      A dataset whose iterators have `get_state`, `set_state` and `close`; with workers, close them
      before the program ends. The state is `{'step': number of batches received}`, independent of the
      numbers of threads, workers and hosts.

    Raises:
      CorruptExample: from `next`, when the batch that contains the corrupt example is due; names it.
    """
    examples = _Shuffled(len(source), seed)
    chunks = _Chunks(source, transform, examples, batch_size, shard, sys.maxsize // batch_size)
    return _Batches(chunks, skip_corrupt, threads, workers)


def eval_batches(
    source: Source,
    transform: Transform,
    *,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    skip_corrupt: bool = False,
    threads: int | None = None,
    workers: int = 0,
) -> grain.IterDataset:
    """Every example once and in order; all hosts get the same number of batches, the last ones padded.

    Arguments, result and errors are as in `train_batches`.
    """
    steps = -(-len(source) // (batch_size * shard[1]))
    chunks = _Chunks(source, transform, _InOrder(len(source)), batch_size, shard, steps)
    return _Batches(chunks, skip_corrupt, threads, workers)


def stream_batches(
    stream: grain.IterDataset,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    skip_corrupt: bool = False,
    threads: int | None = None,
    workers: int = 0,
) -> grain.IterDataset:
    """Batches of a stream of examples, in its order; the stream itself shuffles, repeats and reads ahead.

    Each host reads its own stream, which the data set has to shard by `jax.process_index()`. The random
    numbers of an example are a function of seed, host and position in the stream. The state of an iterator
    is `{'step': number of batches received, 'stream': state of the stream's iterator}`.

    Arguments and errors are as in `train_batches`; `threads` and `workers` have no effect.
    """
    del threads, workers
    return _StreamBatches(stream, transform, batch_size, (seed, shard[0]), skip_corrupt)


class _StreamBatches(grain.IterDataset):
    def __init__(self, stream, transform, batch_size, seed, skip_corrupt):
        super().__init__()
        self.stream, self.transform = stream, transform
        self.batch_size, self.seed, self.skip_corrupt = batch_size, seed, skip_corrupt

    def __iter__(self) -> grain.DatasetIterator:
        return _StreamIterator(self)


class _StreamIterator(grain.DatasetIterator):
    """Batches the examples of a stream; see `stream_batches` for its state."""

    def __init__(self, batches: _StreamBatches):
        super().__init__()
        self._batches, self._step = batches, 0
        self._examples = iter(batches.stream)
        self._zeros: Mapping[str, np.ndarray] | None = None  # in place of a corrupt example

    def __next__(self) -> dict[str, np.ndarray]:
        batches = self._batches
        rows: list[Mapping[str, np.ndarray] | None] = []
        for row in range(batches.batch_size):
            position = self._step * batches.batch_size + row
            try:
                example = next(self._examples)
            except StopIteration:
                raise UserError(
                    f'the stream of training examples ended after {position}; repeat it, or train '
                    'for fewer steps'
                ) from None
            try:
                rows.append(
                    batches.transform(example, np.random.default_rng((*batches.seed, position)))
                )
            except CorruptExample as error:
                if not batches.skip_corrupt:
                    raise CorruptExample(
                        f'{error}; config.data.skip_corrupt skips such examples'
                    ) from error
                _warn_once(str(error))
                rows.append(None)
            except UserError as error:
                raise UserError(f'example {position} of the stream: {error}') from error
        read = [row for row in rows if row is not None]
        if self._zeros is None:
            if not read:
                raise CorruptExample('all examples of the first batch of the stream are corrupt')
            self._zeros = _zeros_like(read[0])
        self._step += 1
        return _stack(rows, self._zeros)

    def get_state(self) -> dict[str, Any]:
        return {'step': self._step, 'stream': self._examples.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._step = state['step']
        self._examples.set_state(state['stream'])

    def close(self) -> None:
        self._examples.close()


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    """Position in the endless sequence of epochs -> (index of the example, random generator)."""

    count: int
    seed: int

    def __call__(self, position: int) -> tuple[int, np.random.Generator]:
        epoch, offset = divmod(position, self.count)
        index = int(_permutation(self.count, self.seed, epoch)[offset])
        return index, np.random.default_rng((self.seed, epoch, index))


@dataclasses.dataclass(frozen=True)
class _InOrder:
    """Position -> (index of the example, random generator), None past the end."""

    count: int

    def __call__(self, position: int) -> tuple[int, np.random.Generator] | None:
        return (position, np.random.default_rng(position)) if position < self.count else None


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """The chunks of all batches in order, by index; threads or workers make one at a time.

    A chunk is some rows of a batch, and the errors of its corrupt examples.
    """

    source: Source
    transform: Transform
    examples: _Shuffled | _InOrder
    batch_size: int
    shard: tuple[int, int]
    steps: int

    @property
    def per_batch(self) -> int:
        return -(-self.batch_size // _CHUNK_SIZE)

    def __len__(self):
        return self.steps * self.per_batch

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], list[str]]:
        step, chunk = divmod(index, self.per_batch)
        host, hosts = self.shard
        first = (step * hosts + host) * self.batch_size
        start, stop = chunk * _CHUNK_SIZE, min((chunk + 1) * _CHUNK_SIZE, self.batch_size)
        rows: list[Mapping[str, np.ndarray] | None] = []
        errors: list[str] = []
        for position in range(first + start, first + stop):
            try:
                rows.append(self._row(position))
            except CorruptExample as error:
                # Passed on as text: it is raised in the main process, when its batch is due.
                rows.append(None)
                errors.append(str(error))
        read = [row for row in rows if row is not None]
        return _stack(rows, _zeros_like(read[0]) if read else self._zeros), errors

    def _row(self, position: int) -> Mapping[str, np.ndarray] | None:
        """The transformed example at a position; None for padding."""
        if (found := self.examples(position)) is None:
            return None
        index, rng = found
        try:
            return self.transform(self.source[index], rng)
        except CorruptExample:
            raise
        except UserError as error:
            raise UserError(f'{self.source.describe(index)}: {error}') from error

    @functools.cached_property
    def _zeros(self) -> dict[str, np.ndarray]:
        """Zeros of the shapes of an example, for chunks without any readable example."""
        return _zeros_like(first_readable(self.source, self.transform))


def first_readable(source: Source, transform: Transform) -> Mapping[str, np.ndarray]:
    """The first example that is not corrupt, transformed; UserError if there is none."""
    for index in range(len(source)):
        try:
            return transform(source[index], np.random.default_rng(0))
        except CorruptExample:
            continue
        except UserError as error:
            raise UserError(f'{source.describe(index)}: {error}') from error
    raise UserError(f'{source.name}: all {len(source)} examples are corrupt')


def _zeros_like(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: np.zeros_like(value) for key, value in example.items()}


def _stack(
    rows: Sequence[Mapping[str, np.ndarray] | None], zeros: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Stacks rows, with zeros in place of None, and adds their mask."""
    arrays = {key: np.stack([(row or zeros)[key] for row in rows]) for key in zeros}
    return arrays | {'mask': np.array([row is not None for row in rows])}


class _Batches(grain.IterDataset):
    def __init__(self, chunks: _Chunks, skip_corrupt: bool, threads: int | None, workers: int):
        super().__init__()
        self.chunks, self.skip_corrupt = chunks, skip_corrupt
        # More threads would wait for each other; with fewer, a core would idle while a thread reads.
        self.threads, self.workers = threads or (os.cpu_count() or 1) + 1, workers

    def __iter__(self) -> grain.DatasetIterator:
        return _BatchIterator(self)

    def read_from(self, step: int) -> grain.DatasetIterator:
        """Iterates over the chunks from batch `step` on; grain reads ahead."""
        start = step * self.chunks.per_batch
        chunks = grain.MapDataset.source(self.chunks)[start:]
        if not self.workers:
            ahead = self.threads + 2 * self.chunks.per_batch
            return iter(chunks.to_iter_dataset(grain.ReadOptions(self.threads, ahead)))
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain's worker processes require it
        ahead = 1 + 2 * self.chunks.per_batch // self.workers
        options = grain.MultiprocessingOptions(self.workers, ahead)
        chunks = chunks.to_iter_dataset(grain.ReadOptions(1, 1))
        return iter(chunks.mp_prefetch(options, _ignore_interrupts))


class _BatchIterator(grain.DatasetIterator):
    """Concatenates chunks; its state is the number of batches received."""

    def __init__(self, batches: _Batches):
        super().__init__()
        self._batches = batches
        self._step = 0
        self._chunks = batches.read_from(0)

    def __next__(self) -> dict[str, np.ndarray]:
        chunks = [next(self._chunks) for _ in range(self._batches.chunks.per_batch)]
        arrays, errors = zip(*chunks, strict=True)
        for error in itertools.chain.from_iterable(errors):
            if not self._batches.skip_corrupt:
                raise CorruptExample(f'{error}; config.data.skip_corrupt skips such examples')
            _warn_once(error)
        self._step += 1
        return {key: np.concatenate([chunk[key] for chunk in arrays]) for key in arrays[0]}

    def get_state(self) -> dict[str, int]:
        return {'step': self._step}

    def set_state(self, state: Mapping[str, int]) -> None:
        self._chunks.close()
        self._step = state['step']
        self._chunks = self._batches.read_from(self._step)

    def start_prefetch(self) -> None:
        self._chunks.start_prefetch()

    def close(self) -> None:
        self._chunks.close()
        if self._batches.workers:
            # The StopIteration at the end of the data keeps the last chunks in a reference cycle. Their
            # shared memory would be reported as leaked if it was still in use at exit.
            gc.collect()


def _ignore_interrupts(worker: int, workers: int) -> None:
    """Makes a worker ignore Ctrl-C, which a terminal sends to all processes: the main process ends it."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_lock = threading.Lock()


def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    with _lock:  # at the start of an epoch all threads need the same permutation
        return _permuted(count, seed, epoch)


@functools.lru_cache(maxsize=2)  # a batch may contain examples of two epochs
def _permuted(count: int, seed: int, epoch: int) -> np.ndarray:
    # `count` is not an index: no example has a generator with this seed.
    return np.random.default_rng((seed, epoch, count)).permutation(count)


@functools.cache
def _warn_once(error: str) -> None:
    logger.warning('skipped: %s', error)
