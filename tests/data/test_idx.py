import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from vitjax.data.arrays import Arrays
from vitjax.data.idx import FASHION, read_idx
from vitjax.data.sources import open_source
from vitjax.errors import UserError

FASHION_MNIST = Path('/usr/share/datasets/fashion-mnist')
PIXELS = np.arange(12 * 4 * 5, dtype=np.uint8).reshape(12, 4, 5)
LABELS = np.arange(12, dtype=np.uint8)


def idx(array, kind=8):
    return (
        struct.pack(f'>BBBB{array.ndim}I', 0, 0, kind, array.ndim, *array.shape) + array.tobytes()
    )


def write(folder, images, labels, mark='-', zipped=False, prefix='train'):
    folder.mkdir(exist_ok=True)
    for name, data in ((f'images{mark}idx3', images), (f'labels{mark}idx1', labels)):
        path = folder / f'{prefix}-{name}-ubyte{".gz" if zipped else ""}'
        path.write_bytes(gzip.compress(data) if zipped else data)
    return str(folder)


@pytest.mark.parametrize('mark', ['-', '.'])
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize(('split', 'prefix'), [('train', 'train'), ('test', 't10k')])
def test_splits_read_images_and_labels(tmp_path, mark, zipped, split, prefix):
    path = write(tmp_path, idx(PIXELS), idx(LABELS), mark, zipped, prefix)
    source = open_source('idx', split, path)
    assert len(source) == 12
    np.testing.assert_array_equal(source[3]['image'], PIXELS[3][..., None])
    assert source[3]['label'] == 3
    assert source.labels == tuple(map(str, range(12)))
    assert 'image 3' in source.describe(3)


def test_splits_name_classes(tmp_path):
    digits = write(tmp_path / 'mnist', idx(PIXELS[:2]), idx(LABELS[:2]))
    assert open_source('idx', 'train', digits).labels == tuple('0123456789')
    fashion = write(tmp_path / 'Fashion-MNIST', idx(PIXELS[:2]), idx(LABELS[:2]))
    assert open_source('idx', 'train', fashion).labels == FASHION


@pytest.mark.parametrize(
    ('images', 'labels', 'message'),
    [
        (b'', idx(LABELS), 'not an IDX file'),
        (b'\0\0\x08\x03', idx(LABELS), 'not an IDX file'),
        (idx(PIXELS, kind=13), idx(LABELS), 'not an IDX file of unsigned bytes'),
        (idx(PIXELS)[:-1], idx(LABELS), '239 bytes of data, but its header has 240'),
        (idx(PIXELS) + b'x', idx(LABELS), '241 bytes of data, but its header has 240'),
        (idx(PIXELS.reshape(48, 5)), idx(LABELS), r'expected 3 dimensions, got shape \(48, 5\)'),
        (idx(PIXELS), idx(LABELS[:, None]), r'expected 1 dimensions, got shape \(12, 1\)'),
        (idx(PIXELS), idx(LABELS[:-1]), '12 images, but .* 11 labels'),
        (idx(PIXELS[:0]), idx(LABELS[:0]), 'holds no images'),
    ],
)
def test_splits_refuse_malformed_files(tmp_path, images, labels, message):
    path = write(tmp_path, images, labels)
    with pytest.raises(UserError, match=message) as caught:
        open_source('idx', 'train', path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize('label', [-1, 2])
def test_splits_refuse_label_without_class(label):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(UserError, match=f'image 1 of x has label {label}, but there are 2 classes'):
        Arrays('x', images, np.array([0, label]), ('a', 'b'))


def test_label_without_a_class(tmp_path):
    path = write(tmp_path / 'fashion', idx(PIXELS), idx(LABELS))
    with pytest.raises(UserError, match=r'image 10 of .* has label 10, but there are 10 classes'):
        open_source('idx', 'train', path)


@pytest.mark.parametrize('length', [5, 40, -4])
def test_splits_refuse_damaged_gzip(tmp_path, length):
    path = tmp_path / 'images.gz'
    path.write_bytes(gzip.compress(idx(PIXELS))[:length])
    with pytest.raises(UserError, match=r'images.gz: cannot be read'):
        read_idx(path)


def test_splits_report_missing_labels(tmp_path):
    path = write(tmp_path, idx(PIXELS), idx(LABELS))
    (tmp_path / 'train-labels-idx1-ubyte').unlink()
    with pytest.raises(UserError, match='no file train-labels-idx1-ubyte'):
        open_source('idx', 'train', path)


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason='Debian package dataset-fashion-mnist is not installed'
)
@pytest.mark.parametrize(('split', 'count'), [('train', 60_000), ('test', 10_000)])
def test_splits_read_fashion_mnist(split, count):
    source = open_source('idx', split, str(FASHION_MNIST))
    assert source.images.shape == (count, 28, 28, 1)
    assert source.labels == FASHION
    np.testing.assert_array_equal(np.bincount(source.labels_of), count // 10)
    assert (
        source.labels[open_source('idx', 'train', str(FASHION_MNIST))[0]['label']] == 'Ankle boot'
    )
