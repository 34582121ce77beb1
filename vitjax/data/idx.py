"""MNIST and similar data sets in the IDX format, gzipped or not.

Format: http://yann.lecun.com/exdb/mnist, "FILE FORMATS FOR THE MNIST DATABASE".
"""

import functools
import gzip
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vitjax.data.arrays import Arrays
from vitjax.data.paths import data_folder
from vitjax.errors import UserError

FASHION: tuple[str, ...] = (
    'T-shirt/top',
    'Trouser',
    'Pullover',
    'Dress',
    'Coat',
    'Sandal',
    'Shirt',
    'Sneaker',
    'Bag',
    'Ankle boot',
)

_PREFIXES = {'train': 'train', 'test': 't10k'}


def splits(path: str | None) -> Mapping[str, Callable[[], Arrays]]:
    """'train' and 'test' of a folder with `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]`.

    The names of the classes are their numbers; if the path contains 'fashion', they are those of
    Fashion-MNIST.

    Raises:
      UserError: the folder is missing; when a split is opened: a file is missing, damaged, or of
        another shape.
    """
    folder = data_folder(path, 'idx', 'the folder of its files')
    return {name: functools.partial(_open, folder, name) for name in _PREFIXES}


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, of the shape in its header.

    Raises:
      UserError: not an IDX file of unsigned bytes, or more or fewer bytes than the shape in its header needs.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'{path}: cannot be read: {error}') from error
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions; then their sizes.
    if len(data) < 4 or data[:3] != b'\0\0\x08' or len(data) < 4 + 4 * data[3]:
        raise UserError(f'{path}: not an IDX file of unsigned bytes (starts with {data[:4].hex()})')
    start = 4 + 4 * data[3]
    shape = struct.unpack(f'>{data[3]}I', data[4:start])
    if len(data) - start != math.prod(shape):
        raise UserError(
            f'{path}: {len(data) - start} bytes of data, but its header has {math.prod(shape)}; '
            'copy the file again'
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _open(folder: Path, split: str) -> Arrays:
    images = _find(folder, f'{_PREFIXES[split]}-images-idx3-ubyte')
    labels = _find(folder, f'{_PREFIXES[split]}-labels-idx1-ubyte')
    pixels, numbers = read_idx(images), read_idx(labels)
    for path, array, dimensions in ((images, pixels, 3), (labels, numbers, 1)):
        if array.ndim != dimensions:
            raise UserError(f'{path}: expected {dimensions} dimensions, got shape {array.shape}')
    if len(pixels) != len(numbers):
        raise UserError(f'{images} has {len(pixels)} images, but {labels} {len(numbers)} labels')
    if any('fashion' in part.lower() for part in folder.resolve().parts):
        names = FASHION
    else:
        names = tuple(map(str, range(max(int(numbers.max(initial=0)) + 1, 10))))
    return Arrays(str(images), pixels[..., None], numbers, names)


def _find(folder: Path, name: str) -> Path:
    # Files are named 'images-idx3' or 'images.idx3', depending on where they come from.
    names = [f'{stem}{end}' for stem in (name, name.replace('-idx', '.idx')) for end in ('', '.gz')]
    for path in (folder / name for name in names):
        if path.is_file():
            return path
    raise UserError(f'no file {name} (or .gz) in {folder}')
