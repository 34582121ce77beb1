"""Parts of a data set, in the syntax of TFDS: 'train', 'train[:90%]', 'train[10:20]+test'."""

import dataclasses
import re

import numpy as np

from vitjax.errors import UserError

_BOUND = r'(-?\d+(?:\.\d+)?%|-?\d+)?'
_PART = re.compile(rf'([\w.-]+)(?:\[{_BOUND}:{_BOUND}\])?')


@dataclasses.dataclass(frozen=True)
class Part:
    """A contiguous part of one split; bounds are text such as '10%', or None if omitted."""

    split: str
    start: str | None = None
    stop: str | None = None

    def range(self, count: int) -> range:
        """Indices of the part in a split of `count` examples.

        Raises:
          UserError: the part exceeds the split, or is empty.
        """
        start = 0 if self.start is None else _index(self.start, count)
        stop = count if self.stop is None else _index(self.stop, count)
        if not 0 <= start <= count or not 0 <= stop <= count:
            raise UserError(f'split {self} reaches past the {count} examples of {self.split}')
        if start >= stop:
            raise UserError(f'split {self} is empty: {self.split} has {count} examples')
        return range(start, stop)

    def __str__(self):
        if self.start is None and self.stop is None:
            return self.split
        return f'{self.split}[{self.start or ""}:{self.stop or ""}]'


def parse_split(text: str) -> list[Part]:
    """Reads 'NAME', 'NAME[START:STOP]' and sums of them with '+'.

    Bounds are examples or percent ('10%', '12.5%', rounded to whole examples), counted from the end
    when negative, as in https://www.tensorflow.org/datasets/splits.

    Raises:
      UserError: invalid syntax.
    """
    parts = []
    for part in text.split('+'):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise UserError(
                f"{part.strip()!r} is not a split; write 'train', 'train[:90%]', 'train[100:200]' or "
                "'train[:10%]+test'"
            )
        parts.append(Part(*match.groups()))
    return parts


def spread_classes(labels: np.ndarray) -> np.ndarray:
    """An order in which every contiguous part has nearly the same class proportions.

    Args:
      labels: integers [N].

    Returns:
      Indices [N]; the order within a class is kept.
    """
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind='stable')


def _index(bound: str, count: int) -> int:
    index = round(float(bound[:-1]) * count / 100) if bound.endswith('%') else int(bound)
    return index + count if bound.startswith('-') else index
