"""Batches from a source: shuffled without end for training, each example once for evaluation.

A batch is a dict of arrays, stacked from what the transform returns, and `'mask'`, bool [B]: False
for padding and for unreadable examples that are left out, whose values are zeros. All batches have
the same shapes. Source, seed and step alone resolve_model_args the content of a global batch, of which host k
of K gets the k-th of K equal parts: neither threads nor workers nor hosts change it.
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
from collections.abc import Callable, Mapping
from typing import Any

import grain
import numpy as np
from absl import flags

from vitjax.errors import CorruptExample, UserError
from vitjax.protocols import Source

logger = logging.getLogger(__name__)

Transform = Callable[[Mapping[str, Any], np.random.Generator], Mapping[str, np.ndarray]]

# So many examples are one task of a thread: enough to make the cost of a task small beside theirs,
# few enough that several threads work on the batch that is waited for.
_PIECE = 16


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
    """Endless batches; every epoch is a new permutation, and batches run on over its end.

    The random numbers of an example are a function of seed, epoch and its index.

    Args:
      source: the examples.
      transform: (example, random numbers) -> dict of arrays of fixed shapes.
      batch_size: B, examples in a batch of this host.
      seed: at least 0.
      shard: (index of this host, number of hosts).
      skip_corrupt: masks unreadable examples and logs each once, instead of raising.
      threads: that read and transform; None: one more than there are cores.
      workers: processes that do so instead, if more than 0.

    Returns:
      A dataset whose iterators have `get_state`, `set_state` and `close`; with workers, close them
      before the program ends. The state is `{'step': batches received}`, whatever the number of
      threads, workers and hosts.

    Raises:
      CorruptExample: from `next`; names the unreadable example of the batch that was due.
    """
    examples = _Shuffled(len(source), seed)
    pieces = _Pieces(source, transform, examples, batch_size, shard, sys.maxsize // batch_size)
    return _Batches(pieces, skip_corrupt, threads, workers)


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
    """Every example once, in order; as many batches on each host, the last ones padded.

    Arguments, result and errors are those of `train_batches`.
    """
    steps = -(-len(source) // (batch_size * shard[1]))
    pieces = _Pieces(source, transform, _InOrder(len(source)), batch_size, shard, steps)
    return _Batches(pieces, skip_corrupt, threads, workers)


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
    """Batches of a stream of examples, in its order; the stream shuffles, repeats and reads ahead itself.

    Each host reads a stream of its own, which the data set has to divide by `jax.process_index()`. The
    random numbers of an example are a function of seed, host and its place in the stream. The state of an
    iterator is that of the stream's.

    Arguments and errors are those of `train_batches`; `threads` and `workers` are the stream's own matter.
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
    """Collects the examples of a stream; its state is the number of batches and the stream's own."""

    def __init__(self, batches: _StreamBatches):
        super().__init__()
        self._batches, self._step = batches, 0
        self._examples = iter(batches.stream)
        self._blank: Mapping[str, np.ndarray] | None = None  # in place of one that cannot be read

    def __next__(self) -> dict[str, np.ndarray]:
        batches, rows = self._batches, []
        for row in range(batches.batch_size):
            place = self._step * batches.batch_size + row
            try:
                example = next(self._examples)
            except StopIteration:
                raise UserError(
                    f'the stream of training examples ended after {place}; repeat it, or train shorter'
                ) from None
            try:
                rows.append(
                    batches.transform(example, np.random.default_rng((*batches.seed, place)))
                )
            except CorruptExample as error:
                if not batches.skip_corrupt:
                    raise CorruptExample(
                        f'{error}; config.data.skip_corrupt leaves such examples out'
                    ) from error
                _warn_once(str(error))
                rows.append(None)
            except UserError as error:
                raise UserError(f'example {place} of the stream: {error}') from error
        read = [row for row in rows if row is not None]
        if self._blank is None and not read:
            raise CorruptExample('not one example of the first batch of the stream can be read')
        if self._blank is None:
            self._blank = {key: np.zeros_like(value) for key, value in read[0].items()}
        self._step += 1
        arrays = {k: np.stack([(row or self._blank)[k] for row in rows]) for k in self._blank}
        return arrays | {'mask': np.array([row is not None for row in rows])}

    def get_state(self) -> dict[str, Any]:
        return {'step': self._step, 'stream': self._examples.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._step = state['step']
        self._examples.set_state(state['stream'])

    def close(self) -> None:
        self._examples.close()


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    """Position in the endless stream of examples -> (index, random numbers)."""

    count: int
    seed: int

    def __call__(self, position: int) -> tuple[int, np.random.Generator]:
        epoch, place = divmod(position, self.count)
        index = int(_permutation(self.count, self.seed, epoch)[place])
        return index, np.random.default_rng((self.seed, epoch, index))


@dataclasses.dataclass(frozen=True)
class _InOrder:
    """Position -> (index, random numbers), None past the end."""

    count: int

    def __call__(self, position: int) -> tuple[int, np.random.Generator] | None:
        return (position, np.random.default_rng(position)) if position < self.count else None


@dataclasses.dataclass(frozen=True)
class _Pieces:
    """What threads or workers make, by index: the pieces of the first batch, of the second ...

    A piece is some rows of a batch, and what was wrong with the examples that could not be read.
    """

    source: Source
    transform: Transform
    examples: _Shuffled | _InOrder
    batch_size: int
    shard: tuple[int, int]
    steps: int

    @property
    def in_batch(self) -> int:
        return -(-self.batch_size // _PIECE)

    def __len__(self):
        return self.steps * self.in_batch

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], list[str]]:
        step, piece = divmod(index, self.in_batch)
        host, hosts = self.shard
        first = (step * hosts + host) * self.batch_size
        rows, errors = [], []
        for row in range(piece * _PIECE, min((piece + 1) * _PIECE, self.batch_size)):
            example = self.examples(first + row)
            try:
                rows.append(example and self.transform(self.source[example[0]], example[1]))
            except CorruptExample as error:
                # Carried along as text: it is due when its batch is, and in the main process.
                rows.append(None)
                errors.append(str(error))
            except UserError as error:
                raise UserError(f'{self.source.describe(example[0])}: {error}') from error
        read = [row for row in rows if row is not None]
        blank = {k: np.zeros_like(v) for k, v in (read[0] if read else self._any).items()}
        arrays = {k: np.stack([(row or blank)[k] for row in rows]) for k in blank}
        return arrays | {'mask': np.array([row is not None for row in rows])}, errors

    @functools.cached_property
    def _any(self) -> Mapping[str, np.ndarray]:
        """An example that can be read, for the shapes of rows in whose stead there is none."""
        for index in range(len(self.source)):
            try:
                return self.transform(self.source[index], np.random.default_rng(0))
            except CorruptExample:
                continue
        raise UserError(f'{self.source.name}: not one of {len(self.source)} examples can be read')


class _Batches(grain.IterDataset):
    def __init__(self, pieces: _Pieces, skip_corrupt: bool, threads: int, workers: int):
        super().__init__()
        self.pieces, self.skip_corrupt = pieces, skip_corrupt
        # More threads would only get into each other's way, fewer leave a core idle while one reads.
        self.threads, self.workers = threads or (os.cpu_count() or 1) + 1, workers

    def __iter__(self) -> grain.DatasetIterator:
        return _BatchIterator(self)

    def read_from(self, step: int) -> grain.DatasetIterator:
        """Pieces in order, from those of batch `step` on, read ahead."""
        start = step * self.pieces.in_batch
        pieces = grain.MapDataset.source(self.pieces)[start:]
        if not self.workers:
            ahead = self.threads + 2 * self.pieces.in_batch
            return iter(pieces.to_iter_dataset(grain.ReadOptions(self.threads, ahead)))
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # which grain's worker processes insist on
        ahead = 1 + 2 * self.pieces.in_batch // self.workers
        options = grain.MultiprocessingOptions(self.workers, ahead)
        pieces = pieces.to_iter_dataset(grain.ReadOptions(1, 1))
        return iter(pieces.mp_prefetch(options, _leave_interrupts))


class _BatchIterator(grain.DatasetIterator):
    """Puts pieces together; its state counts batches, however they are read."""

    def __init__(self, batches: _Batches):
        super().__init__()
        self._batches = batches
        self._step = 0
        self._pieces = batches.read_from(0)

    def __next__(self) -> dict[str, np.ndarray]:
        pieces = [next(self._pieces) for _ in range(self._batches.pieces.in_batch)]
        arrays, errors = zip(*pieces, strict=True)
        for error in itertools.chain.from_iterable(errors):
            if not self._batches.skip_corrupt:
                raise CorruptExample(f'{error}; config.data.skip_corrupt leaves such examples out')
            _warn_once(error)
        self._step += 1
        return {key: np.concatenate([piece[key] for piece in arrays]) for key in arrays[0]}

    def get_state(self) -> dict[str, int]:
        return {'step': self._step}

    def set_state(self, state: Mapping[str, int]) -> None:
        self._pieces.close()
        self._step = state['step']
        self._pieces = self._batches.read_from(self._step)

    def start_prefetch(self) -> None:
        self._pieces.start_prefetch()

    def close(self) -> None:
        self._pieces.close()
        if self._batches.workers:
            # The end of the data is an exception, which holds the last pieces in a circle; their memory
            # is shared, and called leaked if it outlives the program.
            gc.collect()


def _leave_interrupts(worker: int, workers: int) -> None:
    """Has a worker take no notice of Ctrl-C, which a terminal sends to all: the run ends it."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_lock = threading.Lock()


def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    with _lock:  # at an epoch's start all threads ask for the same one
        return _permuted(count, seed, epoch)


@functools.lru_cache(maxsize=2)  # batches run over the end of an epoch
def _permuted(count: int, seed: int, epoch: int) -> np.ndarray:
    # `count` is no index, so no example has the same random numbers.
    return np.random.default_rng((seed, epoch, count)).permutation(count)


@functools.cache
def _warn_once(error: str) -> None:
    logger.warning('left out: %s', error)
