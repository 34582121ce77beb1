"""CIFAR-10 and CIFAR-100 in the binary layout of https://www.cs.toronto.edu/~kriz/cifar.html."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vitjax.data.arrays import Arrays
from vitjax.data.paths import data_folder
from vitjax.errors import UserError

_PIXELS = 3 * 32 * 32


@dataclasses.dataclass(frozen=True)
class _Layout:
    classes: int
    names: str  # file with the name of a class in each line
    files: Mapping[str, tuple[str, ...]]
    label_bytes: int  # before the pixels of an image; the last of them is the class


_LAYOUTS = (
    _Layout(
        classes=10,
        names='batches.meta.txt',
        files={
            'train': tuple(f'data_batch_{number}.bin' for number in range(1, 6)),
            'test': ('test_batch.bin',),
        },
        label_bytes=1,
    ),
    _Layout(
        classes=100,
        names='fine_label_names.txt',
        files={'train': ('train.bin',), 'test': ('test.bin',)},
        label_bytes=2,
    ),
)


def splits(path: str | None) -> Mapping[str, Callable[[], Arrays]]:
    """'train' and 'test' of a folder with the binary files of CIFAR-10 or CIFAR-100 (fine labels).

    Raises:
      UserError: the folder is missing or has no such files; when a split is opened: a file is
        missing or of the wrong length.
    """
    folder = data_folder(path, 'cifar', 'the folder of its .bin files')
    for layout in _LAYOUTS:
        if any((folder / file).is_file() for files in layout.files.values() for file in files):
            return {name: functools.partial(_open, folder, layout, name) for name in layout.files}
    raise UserError(
        f'{path}: neither data_batch_1.bin (CIFAR-10) nor train.bin (CIFAR-100) in it; the binary '
        'version is needed'
    )


def _open(folder: Path, layout: _Layout, split: str) -> Arrays:
    size = layout.label_bytes + _PIXELS
    parts = []
    for file in layout.files[split]:
        path = folder / file
        if not path.is_file():
            raise UserError(f'no file {path}')
        data = np.frombuffer(path.read_bytes(), np.uint8)
        if len(data) % size:
            raise UserError(
                f'{path}: {len(data)} bytes are not a multiple of {size}, the size of an image; '
                'copy the file again'
            )
        parts.append(data.reshape(-1, size))
    records = np.concatenate(parts)
    images = records[:, layout.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = records[:, layout.label_bytes - 1]
    return Arrays(f'{folder} {split}', np.ascontiguousarray(images), labels, _names(folder, layout))


def _names(folder: Path, layout: _Layout) -> tuple[str, ...]:
    path = folder / layout.names
    if not path.is_file():
        return tuple(map(str, range(layout.classes)))
    try:
        names = tuple(path.read_text('utf-8').split())
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not UTF-8: {error}') from error
    if len(names) != layout.classes:
        raise UserError(f'{path}: {len(names)} names, expected {layout.classes}')
    return names
