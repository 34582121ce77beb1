"""Data sets by name, and their splits as sources: examples by index, see `vitjax.protocols.Source`."""

import functools
import itertools
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from vitjax import registry
from vitjax.data import cifar, digits, folder, idx, libreoffice, parallel, phrasebook, tfds
from vitjax.data.splits import parse_split
from vitjax.errors import UserError
from vitjax.protocols import Source

# In place of a source that is not read: it has a length only, that of ImageNet's training split.
UNREAD = range(1_281_167)

Splits = Mapping[str, Any]  # name -> source or stream, or a function that opens it

# Name -> function that returns the splits; 'tfds:' is followed by a name of TFDS. Those of sentences take
# both `languages`.
SOURCES: dict[str, Callable[..., Splits]] = {
    'digits': digits.splits,
    'idx': idx.splits,
    'cifar': cifar.splits,
    'folder': folder.splits,
    'phrasebook': phrasebook.splits,
    'parallel': parallel.splits,
    'libreoffice': libreoffice.splits,
    'tfds:': tfds.splits,
}


def open_splits(
    name: Any, keys: Mapping[str, Any] | None = None, languages: tuple[str, str] | None = None
) -> Splits:
    """The splits of a data set, which are opened when they are used.

    Args:
      name: one of `SOURCES`, `tfds:NAME` with a name as `tfds.builder` takes it, or an import path.
      keys: those of `config.data`, of which its arguments are given; `path` may not be more than None where
        there is no such argument.
      languages: of sentences and of their translations; None for other data.

    Raises:
      UserError: unknown name, missing or malformed files, sentences where there should be none.
    """
    found = registry.find('data', name)
    accepted = registry.parameters(found)
    keys = dict(keys or {})
    if keys.get('path') is not None and 'path' not in accepted:
        raise UserError(f'data set {name!r} has no path, got config.data.path={keys["path"]!r}')
    needs_languages = 'languages' in accepted and accepted['languages'].default is (
        accepted['languages'].empty
    )
    if languages is None and needs_languages:
        raise UserError(f"data set {name!r} holds sentences, which are for task 'translation'")
    offered = {} if languages is None else {'languages': languages}
    splits = registry.call(found, {k: v for k, v in keys.items() if k in accepted}, **offered)
    return check_splits(splits, str(name))


def check_splits(splits: Any, name: str) -> Splits:
    """What a data set returned; UserError unless it is {split: source}."""
    if not isinstance(splits, Mapping) or not splits:
        raise UserError(
            f'data set {name!r} returned {type(splits).__name__}, not {{split: source}} with a split'
        )
    # A split is opened once, however often it is used.
    return {
        key: functools.cache(split) if _opens(split) else split for key, split in splits.items()
    }


def _opens(split: Any) -> bool:
    """Whether it is a function that opens a split, not the split itself."""
    return callable(split) and not hasattr(split, '__getitem__') and not is_stream(split)


def open_source(
    name: Any,
    split: str = 'train',
    path: str | None = None,
    languages: tuple[str, str] | None = None,
) -> Source:
    """Opens a data set, or a part of it.

    Args:
      name, path, languages: see `open_splits`.
      split: in TFDS syntax, see `splits.parse_split`.

    Raises:
      UserError: unknown name or split, missing or malformed files, nothing in the split.
    """
    return open_split(open_splits(name, {'path': path}, languages), split, name, path)


def open_split(splits: Splits, split: str, name: str, path: str | None = None) -> Source:
    """Opens a split, or parts of splits; a whole split may be a stream.

    Args:
      splits: of the data set.
      split: in TFDS syntax, see `splits.parse_split`.
      name, path: of the data set, for messages.
    """
    opened = functools.cache(lambda key: _opened(splits[key], f'{name} {key}'))
    parts = []
    for part in parse_split(split):
        if part.split not in splits:
            where = f' at {path}' if path else ''
            raise UserError(
                f'data set {name}{where} has no split {part.split!r}; it has {", ".join(splits)}'
            )
        whole = opened(part.split)
        if is_stream(whole):
            if split != part.split:
                raise UserError(f'{split!r}: {part.split} is a stream, of which there are no parts')
            return whole
        parts.append((whole, part.range(len(whole))))
    if len(parts) == 1 and len(parts[0][1]) == len(parts[0][0]):
        return parts[0][0]
    return Parts(f'{name} {split}', parts)


def is_stream(source: Any) -> bool:
    """Whether it is a stream of examples, which has no length."""
    import grain  # importing it takes 0.3 s, which loading a model does not need

    return isinstance(source, grain.IterDataset)


def _opened(split: Any, name: str) -> Any:
    if _opens(split):
        split = split()
    if is_stream(split):
        return split
    if not hasattr(split, '__getitem__') or not hasattr(split, '__len__'):
        raise UserError(
            f'{name} is a {type(split).__name__}, not a source: it must have __len__ and __getitem__'
        )
    if not len(split):
        raise UserError(f'{name} has no examples')
    offers = all(hasattr(split, attribute) for attribute in ('name', 'labels', 'describe'))
    return split if offers else _Named(split, name)


class _Named:
    """A source of which only examples are known, with what else a source offers."""

    def __init__(self, source: Any, name: str):
        self._source = source
        self.name = getattr(source, 'name', name)
        labels = getattr(source, 'labels', None)
        self.labels = None if labels is None else tuple(labels)

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]

    def describe(self, index: int) -> str:
        if hasattr(self._source, 'describe'):
            return self._source.describe(index)
        return f'example {index} of {self.name}'


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
