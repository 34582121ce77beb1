import numpy as np
import pytest
from PIL import Image

from vitjax.data.sources import open_source
from vitjax.errors import CorruptExample, UserError


def fill(folder, **classes):
    for label, files in classes.items():
        for file in files:
            path = folder / label / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(path)
    return str(folder)


def labels_of(source):
    return [source.labels[source[index]['label']] for index in range(len(source))]


def test_splits_of_flat_folder_are_train_with_spread_classes(tmp_path):
    path = fill(tmp_path, b=['1.png', '2.PNG', 'deep/er/3.png'], a=['1.jpg', '2.bmp', '3.webp'])
    (tmp_path / 'a' / 'README.md').write_text('no image')
    (tmp_path / 'a' / '.hidden.png').write_text('no image')
    (tmp_path / '.cache').mkdir()
    source = open_source('folder', 'train', path)
    assert source.labels == ('a', 'b')
    assert labels_of(source) == ['a', 'b'] * 3
    assert {source.describe(index) for index in range(6)} == {
        str(tmp_path / file)
        for file in ('a/1.jpg', 'a/2.bmp', 'a/3.webp', 'b/1.png', 'b/2.PNG', 'b/deep/er/3.png')
    }
    np.testing.assert_allclose(source[0]['image'], 9, atol=2)
    with pytest.raises(UserError, match="no split 'test'; it has train"):
        open_source('folder', 'test', path)


@pytest.mark.parametrize(
    ('folders', 'split', 'expected'),
    [
        (('train', 'test'), 'test', 'test'),
        (('train', 'val'), 'test', 'val'),
        (('train', 'val'), 'val', 'val'),
        (('train', 'val', 'test'), 'test', 'test'),
        (('train', 'val', 'test'), 'val', 'val'),
        (('test',), 'test', 'test'),
    ],
)
def test_splits_are_named_after_folders(tmp_path, folders, split, expected):
    for folder in folders:
        fill(tmp_path / folder, cat=['1.png'], dog=['1.png'])
    source = open_source('folder', split, str(tmp_path))
    assert source.describe(0).startswith(str(tmp_path / expected))
    assert source.labels == ('cat', 'dog')


def test_splits_accept_classes_named_like_splits(tmp_path):
    source = open_source('folder', 'train', fill(tmp_path, train=['1.png'], plane=['1.png']))
    assert source.labels == ('plane', 'train')


def test_labels_come_from_train(tmp_path):
    fill(tmp_path / 'train', cat=['1.png'], dog=['1.png'])
    fill(tmp_path / 'test', dog=['1.png'])
    assert labels_of(open_source('folder', 'test', str(tmp_path))) == ['dog']
    fill(tmp_path / 'test', emu=['1.png'])
    with pytest.raises(UserError, match=r'emu: no such class in the training data'):
        open_source('folder', 'test', str(tmp_path))


def test_folder_refuses_class_without_images(tmp_path):
    fill(tmp_path, cat=['1.png'])
    (tmp_path / 'dog').mkdir()
    with pytest.raises(UserError, match=r'dog: no images in it \(.bmp'):
        open_source('folder', 'train', str(tmp_path))


def test_decode_names_corrupt_file(tmp_path):
    source = open_source('folder', 'train', fill(tmp_path, cat=['1.png']))
    (tmp_path / 'cat' / '1.png').write_bytes(b'nothing')
    with pytest.raises(CorruptExample, match=r'cat/1.png: not an image'):
        np.asarray(source[0]['image'])


def test_broken_link_is_a_corrupt_example(tmp_path):
    source = open_source('folder', 'train', fill(tmp_path, cat=['1.png']))
    (tmp_path / 'cat' / '1.png').unlink()
    (tmp_path / 'cat' / '1.png').symlink_to('nowhere.png')
    with pytest.raises(CorruptExample, match=r'no file .*cat/1.png'):
        np.asarray(source[0]['image'])


@pytest.mark.parametrize('hidden', ['.2.png', '.ipynb_checkpoints/2.png', 'deep/.hidden/2.png'])
def test_hidden_files_are_ignored(tmp_path, hidden):
    fill(tmp_path / '.data', cat=['1.png', hidden])
    assert len(open_source('folder', 'train', str(tmp_path / '.data'))) == 1
