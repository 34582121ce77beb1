"""The one random-access interface to data, and the sources by name."""

import functools
import itertools
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from vitjax.data import cifar, digits, folder, idx, libreoffice, parallel, phrasebook, tfds
from vitjax.data.splits import parse_split
from vitjax.errors import UserError, unknown


class Source(Protocol):
    """Examples by index.

    An example is a dict of numpy values. Images are `{'image': uint8 [H, W, C], 'label': int}`, of
    any size and with the channels they have; an image file still to be decoded is an
    `images.EncodedImage`, which `np.asarray` turns into such an array. Sentences are
    `{'source': str, 'target': str}`.

    Attributes:
      name: what messages call the data.
      labels: names of the classes, None where they are unknown.
    """

    name: str
    labels: tuple[str, ...] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def describe(self, index: int) -> str:
        """Names one example in an error: its file, or its index."""


# In place of a source that is not read: it has a length only, that of ImageNet's training split.
UNREAD = range(1_281_167)

Splits = Mapping[str, Callable[[], Source]]  # name -> function that opens the split

# Images: name -> function of the path (or None) that returns the splits.
SOURCES: dict[str, Callable[[str | None], Splits]] = {
    'digits': digits.splits,
    'idx': idx.splits,
    'cifar': cifar.splits,
    'folder': folder.splits,
}

# Sentences: name -> function of the path (or None) and both languages that returns the splits.
TEXTS: dict[str, Callable[[str | None, tuple[str, str]], Splits]] = {
    'phrasebook': phrasebook.splits,
    'parallel': parallel.splits,
    'libreoffice': libreoffice.splits,
}


def check_name(name: str, known: Mapping[str, Any], what: str) -> None:
    """UserError if a data set is neither one of TFDS nor among `SOURCES` or `TEXTS`, whichever is given."""
    if not name.startswith('tfds:') and name not in known:
        raise unknown(what, name, [*known, 'tfds:NAME'])


def open_source(name: str, split: str = 'train', path: str | None = None) -> Source:
    """Opens a data set of images, or a part of it.

    Args:
      name: one of `SOURCES`, or `tfds:NAME` with a name as `tfds.builder` takes it.
      split: in TFDS syntax, see `splits.parse_split`.
      path: folder of the data; for TFDS its `data_dir`.

    Raises:
      UserError: unknown name or split, missing or malformed files, nothing in the split.
    """
    check_name(name, SOURCES, 'data set')
    if name.startswith('tfds:'):
        splits = tfds.splits(name.removeprefix('tfds:'), path)
    else:
        splits = SOURCES[name](path)
    return _open(name, splits, split, path)


def open_texts(
    name: str, languages: tuple[str, str], split: str = 'train', path: str | None = None
) -> Source:
    """Opens a data set of sentences and their translations, or a part of it.

    Args:
      name: one of `TEXTS`, or `tfds:NAME` of a data set with translations.
      languages: that of the sentences and that of the translations, as 'ko' and 'en'.
      split, path: as in `open_source`, whose errors it raises, too.
    """
    check_name(name, TEXTS, 'data set of sentences')
    if name.startswith('tfds:'):
        splits = tfds.text_splits(name.removeprefix('tfds:'), path, languages)
    else:
        splits = TEXTS[name](path, languages)
    return _open(name, splits, split, path)


def _open(name: str, splits: Splits, split: str, path: str | None) -> Source:
    opened = functools.cache(lambda key: splits[key]())
    parts = []
    for part in parse_split(split):
        if part.split not in splits:
            where = f' at {path}' if path else ''
            raise UserError(
                f'data set {name}{where} has no split {part.split!r}; it has {", ".join(splits)}'
            )
        whole = opened(part.split)
        parts.append((whole, part.range(len(whole))))
    if len(parts) == 1 and len(parts[0][1]) == len(parts[0][0]):
        return parts[0][0]
    return Parts(f'{name} {split}', parts)


class Parts:
    """Parts of sources one after another, as one source.

    Args:
      name: what messages call it.
      parts: (source, indices) of each part; the first source's labels count for all.
    """

    def __init__(self, name: str, parts: list[tuple[Source, range]]):
        self.name = name
        self.labels = parts[0][0].labels
        self._parts = parts
        self._ends = list(itertools.accumulate(len(indices) for _, indices in parts))

    def __len__(self):
        return self._ends[-1]

    def __getitem__(self, index):
        source, index = self._find(index)
        return source[index]

    def describe(self, index: int) -> str:
        source, index = self._find(index)
        return source.describe(index)

    def _find(self, index):
        index = range(len(self))[index]
        number = bisect_right(self._ends, index)
        source, indices = self._parts[number]
        return source, indices[index - self._ends[number]]
