import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from vitjax.data.sources import SOURCES, open_source
from vitjax.errors import UserError

RNG = np.random.default_rng(0)


def write_idx(path, name, array):
    header = struct.pack(f'>BBBB{array.ndim}I', 0, 0, 8, array.ndim, *array.shape)
    (path / f'{name}.gz').write_bytes(gzip.compress(header + array.tobytes()))


def write_mnist(path):
    for prefix, count in (('train', 60), ('t10k', 20)):
        pixels = RNG.integers(0, 256, (count, 28, 28), np.uint8)
        write_idx(path, f'{prefix}-images-idx3-ubyte', pixels)
        write_idx(path, f'{prefix}-labels-idx1-ubyte', np.arange(count, dtype=np.uint8) % 10)


def write_cifar(path):
    for file in (*(f'data_batch_{number}.bin' for number in range(1, 6)), 'test_batch.bin'):
        records = RNG.integers(0, 256, (20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        records.tofile(path / file)


def write_folder(path):
    for split, count in (('train', 5), ('test', 2)):
        for label in ('cat', 'dog'):
            folder = path / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = RNG.integers(0, 256, (9, 7 + number, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.png')


WRITERS = {'idx': write_mnist, 'cifar': write_cifar, 'folder': write_folder}


@pytest.fixture(scope='module', params=['digits', 'tfds:vitjax_digits', *WRITERS])
def place(request, tmp_path_factory):
    """Name and path of a small data set of each kind."""
    if request.param == 'digits':
        return request.param, None
    path = tmp_path_factory.mktemp('data')
    if request.param in WRITERS:
        WRITERS[request.param](path)
    return request.param, str(path)


def same(one, other):
    return one['label'] == other['label'] and np.array_equal(one['image'], other['image'])


def test_all_sources_are_tested():
    texts = {'phrasebook', 'parallel', 'libreoffice', 'tfds:'}  # which have tests of their own
    assert set(SOURCES) - texts == {'digits', *WRITERS}


@pytest.mark.parametrize('split', ['train', 'test', 'train[:50%]', 'test+train'])
def test_sources_implement_the_protocol(place, split):
    name, path = place
    source = open_source(name, split, path)
    examples = [source[index] for index in range(len(source))]
    assert len(examples) == len(source) > 0
    assert isinstance(source.name, str)
    assert all(isinstance(label, str) for label in source.labels)
    for index in (0, len(source) - 1):
        image = np.asarray(examples[index]['image'])
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert isinstance(source.describe(index), str)
    assert {int(example['label']) for example in examples} == set(range(len(source.labels)))


def test_sources_can_be_pickled(place):
    name, path = place
    source = open_source(name, 'train[1:]', path)
    again = pickle.loads(pickle.dumps(source))
    assert same(source[3], again[3])
    assert source.describe(3) == again.describe(3)


def test_parts_concatenate_to_the_split(place):
    name, path = place
    whole, test = (open_source(name, split, path) for split in ('train', 'test'))
    parts = open_source(name, 'train[4:]+test+train[:4]', path)
    expected = [(whole, i) for i in range(4, len(whole))]
    expected += [(test, i) for i in range(len(test))] + [(whole, i) for i in range(4)]
    assert len(parts) == len(expected)
    for index in (0, len(whole) - 5, len(whole) - 4, len(parts) - 5, len(parts) - 1):
        source, inner = expected[index]
        assert same(parts[index], source[inner])
        assert parts.describe(index) == source.describe(inner)
    with pytest.raises(IndexError):
        parts[len(parts)]


def test_open_source_reports_unknown_split(place):
    name, path = place
    with pytest.raises(UserError, match=r"no split 'training'; it has .*train"):
        open_source(name, 'training', path)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('digit', "did you mean 'digits'"),
        ('cifar10', "did you mean 'cifar'"),
        ('tfds:mnits', "did you mean 'mnist'"),
        ('tfds:qqqqqq', 'catalog/overview lists them'),
    ],
)
def test_open_source_reports_unknown_name(name, message):
    with pytest.raises(UserError, match=message):
        open_source(name, 'train')


@pytest.mark.parametrize('name', ['idx', 'cifar', 'folder'])
def test_open_source_needs_existing_path(name, tmp_path):
    with pytest.raises(UserError, match=r'needs config\.data\.path'):
        open_source(name, 'train')
    with pytest.raises(UserError, match=r'no folder .*nowhere'):
        open_source(name, 'train', str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match=str(tmp_path)):
        open_source(name, 'train', str(tmp_path))
