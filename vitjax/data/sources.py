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

# Stands for a split that is not read, as in `vitjax plan`. It only has a length, that of ImageNet's training
# split.
PLACEHOLDER_SPLIT = range(1_281_167)

Splits = Mapping[str, Any]  # name -> source or stream, or a function that opens it

# Name -> function that returns the splits; 'tfds:' is followed by a name of TFDS. Functions of data sets of
# sentence pairs take `languages`.
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
    """The splits of a data set; each is opened when it is first used.

    Args:
      name: one of `SOURCES`, `tfds:NAME` with a name as `tfds.builder` takes it, or an import path.
      keys: those of `config.data`. The function of the data set gets those that are its arguments. `path`
        must be None if the function has no such argument.
      languages: (source, target) of sentence pairs; None for other data.

    Raises:
      UserError: unknown name, missing or malformed files, sentence pairs for a task that takes other data.
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
    """Checks what a data set returned, and caches opened splits; UserError unless it is {split: source}."""
    if not isinstance(splits, Mapping) or not splits:
        raise UserError(
            f'data set {name!r} returned {type(splits).__name__}, not {{split: source}} with a split'
        )
    return {
        key: functools.cache(split) if _is_opener(split) else split for key, split in splits.items()
    }


def _is_opener(split: Any) -> bool:
    """Whether `split` is a function that opens a split, not the split itself."""
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
    """Opens a split, or parts of splits; a split that is used as a whole may be a stream.

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
                raise UserError(f'{split!r}: {part.split} is a stream, which has no parts')
            return whole
        parts.append((whole, part.range(len(whole))))
    if len(parts) == 1 and len(parts[0][1]) == len(parts[0][0]):
        return parts[0][0]
    return Parts(f'{name} {split}', parts)


def is_stream(source: Any) -> bool:
    """Whether `source` is a stream of examples, a `grain.IterDataset` without length."""
    import grain  # importing it takes 0.3 s, which loading a model does not need

    return isinstance(source, grain.IterDataset)


def _opened(split: Any, name: str) -> Any:
    if _is_opener(split):
        split = split()
    if is_stream(split):
        return split
    if not hasattr(split, '__getitem__') or not hasattr(split, '__len__'):
        raise UserError(
            f'{name} is a {type(split).__name__}, not a source: it must have __len__ and __getitem__'
        )
    if not len(split):
        raise UserError(f'{name} has no examples')
    is_complete = all(hasattr(split, attribute) for attribute in ('name', 'labels', 'describe'))
    return split if is_complete else _Named(split, name)


class _Named:
    """Adds the optional attributes of a `Source` to an object that has only `__len__` and `__getitem__`."""

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
    """Concatenation of parts of sources, as one source.

    Args:
      name: for messages.
      parts: (source, indices) of each part. `labels` are those of the first source.
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
