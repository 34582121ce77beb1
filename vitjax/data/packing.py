"""Packing: rows of fixed length hold several sentence pairs, which segment numbers tell apart.

Source: Raffel et al., T5, https://arxiv.org/abs/1910.10683, section 3.1.2 ("packing").
"""

import itertools
from collections.abc import Sequence

import numpy as np

_OPEN_ROWS = 100  # rows that first fit tries; trying all hardly fills rows better, and is slow


def pack(lengths: Sequence[tuple[int, int]], room: tuple[int, int], seed: int) -> list[list[int]]:
    """Groups pairs so that both sides of a group fit into a row: first fit in a shuffled order.

    Args:
      lengths: number of (source, target) tokens of each pair, each at most that of `room`.
      room: number of (source, target) tokens in a row.
      seed: of the shuffling; the groups depend on it and on `lengths` only.

    Returns:
      Indices of the pairs in each row; each index is in exactly one row.
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # tokens left in each row
    first = 0  # index of the first row that is tried
    for index in np.random.default_rng(seed).permutation(len(lengths)).tolist():
        source, target = lengths[index]
        for number in range(first, len(rows)):
            room_left = free[number]
            if source <= room_left[0] and target <= room_left[1]:
                rows[number].append(index)
                free[number] = (room_left[0] - source, room_left[1] - target)
                break
        else:
            rows.append([index])
            free.append((room[0] - source, room[1] - target))
            first = max(first, len(rows) - _OPEN_ROWS)
    return rows


class Ragged:
    """Integer sequences of different lengths, stored in one array: less memory, faster to pickle."""

    def __init__(self, sequences: Sequence[Sequence[int]]):
        self.lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        self._values = np.fromiter(itertools.chain.from_iterable(sequences), np.int32)
        self._ends = np.cumsum(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        end = self._ends[index]
        return self._values[end - self.lengths[index] : end]


class Rows:
    """Rows of packed sentence pairs, as a source.

    The arrays of an example are int32, [S] for the source and [T] for the target:
      source, target: the tokens of the sentences one after another, then zeros as padding.
      source_segment, target_segment: number of the sentence of each token, from 1; 0 for padding.
      source_position, target_position: position of each token in its sentence, from 0.

    Args:
      name: for messages.
      sources, targets: tokens of each sentence.
      groups: indices of the sentences in each row.
      lengths: S and T.
    """

    labels: tuple[str, ...] | None = None

    def __init__(
        self,
        name: str,
        sources: Ragged,
        targets: Ragged,
        groups: Sequence[Sequence[int]],
        lengths: tuple[int, int],
    ):
        self.name, self.lengths = name, lengths
        self._sources, self._targets, self._groups = sources, targets, Ragged(groups)

    def __len__(self):
        return len(self._groups.lengths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        group = self._groups[index]
        source = _row('source', [self._sources[i] for i in group], self.lengths[0])
        return source | _row('target', [self._targets[i] for i in group], self.lengths[1])

    def describe(self, index: int) -> str:
        return f'row {index} of {self.name}'

    @property
    def padding(self) -> float:
        """Share of the tokens of all rows that are padding."""
        used = self._sources.lengths.sum() + self._targets.lengths.sum()
        return 1 - float(used) / (len(self) * sum(self.lengths))


def _row(name: str, sentences: list[np.ndarray], length: int) -> dict[str, np.ndarray]:
    counts = [len(tokens) for tokens in sentences]
    row = np.zeros((3, length), np.int32)
    row[:, : sum(counts)] = (
        np.concatenate(sentences),
        np.repeat(np.arange(1, len(counts) + 1), counts),
        np.concatenate([np.arange(count) for count in counts]),
    )
    return dict(zip((name, f'{name}_segment', f'{name}_position'), row, strict=True))
