"""A folder of image files, local or in a bucket, with one subfolder per class."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.data.images import EncodedImage
from vitjax.data.paths import data_folder
from vitjax.data.splits import spread_classes
from vitjax.errors import UserError
from vitjax.files import files_below, subfolders

EXTENSIONS = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')

# Split -> names of its folder; the first that exists is used.
_SPLITS = {'train': ('train',), 'val': ('val',), 'test': ('test', 'val')}


def splits(path: str | None) -> Mapping[str, Callable[[], 'Folder']]:
    """'train', 'val' and 'test': those whose folders exist and contain class folders.

    Without a folder 'test', 'val' is also the split 'test'. A folder that contains class folders only is the
    split 'train'.

    Raises:
      UserError: the folder is missing or has no subfolders; when a split is opened: a class has no
        images, or is not a class of 'train'.
    """
    root = data_folder(path, 'folder', 'a folder of class folders')
    found = {
        split: root / name
        for split, names in _SPLITS.items()
        for name in reversed(names)
        if _subfolders(root / name)
    } or {'train': root}
    labels = _subfolders(found.get('train', next(iter(found.values()))))
    if not labels:
        raise UserError(f'{path}: no subfolders in it; images must be in one folder per class')
    return {split: functools.partial(Folder, where, labels) for split, where in found.items()}


class Folder:
    """The images of a folder, as a source. Any contiguous part has nearly the same class proportions.

    Args:
      root: a folder with one subfolder per class; images are found at any depth.
      labels: names of the classes.

    Raises:
      UserError: a subfolder is not a class, or has no images.
    """

    def __init__(self, root: Path, labels: tuple[str, ...]):
        self.name, self.labels = str(root), labels
        paths: list[str] = []
        numbers: list[int] = []
        for label in _subfolders(root):
            if label not in labels:
                raise UserError(f'{root / label}: no such class in the training data')
            files = _images(root / label)
            if not files:
                raise UserError(f'{root / label}: no images in it ({", ".join(EXTENSIONS)})')
            paths += files
            numbers += [labels.index(label)] * len(files)
        order = spread_classes(np.array(numbers))
        self._paths = [paths[index] for index in order]
        self._numbers = np.array(numbers)[order]

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self._paths[index]
        return {'image': EncodedImage(path, path), 'label': int(self._numbers[index])}

    def describe(self, index: int) -> str:
        return self._paths[index]


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in subfolders(folder) if not name.startswith('.'))


def _images(folder: Path) -> list[str]:
    files = (file for file in files_below(folder) if file.lower().endswith(EXTENSIONS))
    start = len(str(folder))  # hidden files and folders below `folder` are ignored
    return [file for file in files if '/.' not in file[start:]]
