import numpy as np
import pytest

from vitjax.data.sources import open_source
from vitjax.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)


def records(label_bytes, labels):
    labels = np.array(labels, np.uint8)
    planes = PIXELS.transpose(0, 3, 1, 2).reshape(6, -1)
    coarse = np.full((6, label_bytes - 1), 77, np.uint8)
    return np.concatenate([coarse, labels[:, None], planes], axis=1).tobytes()


@pytest.fixture
def cifar10(tmp_path):
    for number in range(1, 6):
        (tmp_path / f'data_batch_{number}.bin').write_bytes(records(1, [number] * 6))
    (tmp_path / 'test_batch.bin').write_bytes(records(1, [0] * 6))
    (tmp_path / 'batches.meta.txt').write_text('\n'.join(f'class{i}' for i in range(10)) + '\n\n')
    return tmp_path


@pytest.fixture
def cifar100(tmp_path):
    (tmp_path / 'train.bin').write_bytes(records(2, range(6)))
    (tmp_path / 'test.bin').write_bytes(records(2, range(94, 100)))
    return tmp_path


def test_splits_read_cifar10(cifar10):
    train, test = (open_source('cifar', split, str(cifar10)) for split in ('train', 'test'))
    assert (len(train), len(test)) == (30, 6)
    np.testing.assert_array_equal(train.images, np.tile(PIXELS, (5, 1, 1, 1)))
    np.testing.assert_array_equal(train.labels_of, np.repeat(np.arange(1, 6), 6))
    assert train.labels == tuple(f'class{i}' for i in range(10))


def test_splits_read_fine_labels_of_cifar100(cifar100):
    test = open_source('cifar', 'test', str(cifar100))
    np.testing.assert_array_equal(test.images, PIXELS)
    np.testing.assert_array_equal(test.labels_of, range(94, 100))
    assert test.labels == tuple(map(str, range(100)))


@pytest.mark.parametrize('length', [3000, 3073 * 2 - 1])
def test_splits_refuse_truncated_file(cifar10, length):
    file = cifar10 / 'data_batch_3.bin'
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match=r'data_batch_3.bin: .* not a multiple of 3073'):
        open_source('cifar', 'train', str(cifar10))


def test_splits_report_missing_file(cifar10):
    (cifar10 / 'data_batch_4.bin').unlink()
    with pytest.raises(UserError, match=r'no file .*data_batch_4.bin'):
        open_source('cifar', 'train', str(cifar10))


def test_splits_refuse_wrong_label_and_wrong_names(cifar10):
    (cifar10 / 'test_batch.bin').write_bytes(records(1, [0, 1, 2, 3, 4, 10]))
    with pytest.raises(UserError, match=r'image 5 of .* has label 10'):
        open_source('cifar', 'test', str(cifar10))
    (cifar10 / 'batches.meta.txt').write_text('one\ntwo\n')
    with pytest.raises(UserError, match='2 names, expected 10'):
        open_source('cifar', 'train', str(cifar10))


def test_splits_refuse_empty_files(cifar100):
    (cifar100 / 'train.bin').write_bytes(b'')
    with pytest.raises(UserError, match='holds no images'):
        open_source('cifar', 'train', str(cifar100))
