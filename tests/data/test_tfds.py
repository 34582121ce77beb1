import sys

import numpy as np
import pytest

from vitjax.data.sources import open_source
from vitjax.errors import UserError


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp('tfds')
    open_source('tfds:vitjax_digits', 'test', str(path))
    return path


def test_prepared_data_equal_the_source(prepared):
    theirs = open_source('tfds:vitjax_digits', 'train+test', str(prepared))
    ours = open_source('digits', 'train+test')
    assert theirs.labels == ours.labels

    def content(source):
        examples = (source[index] for index in range(len(source)))
        return sorted((e['label'], np.asarray(e['image']).tobytes()) for e in examples)

    assert content(theirs) == content(ours)
    assert 'tensorflow' not in sys.modules


def test_builders_are_registered_with_tfds(prepared):
    import tensorflow_datasets as tfds

    import vitjax.data.builders  # noqa: F401 - registers them

    builder = tfds.builder('vitjax_digits', data_dir=prepared)
    assert builder.info.splits['train'].num_examples == 1437
    assert tfds.builder_cls('vitjax_fashion_mnist').LABELS[9] == 'Ankle boot'


def test_preparing_writes_nothing_to_stdout(tmp_path, capsys):
    open_source('tfds:vitjax_digits', 'test', str(tmp_path))
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (
            'mnist',
            r"pip install tensorflow-cpu && python -c .*builder\('mnist', file_format='array",
        ),
        ('imagenet2012', 'to prepare it once needs TensorFlow'),
        ('mnist:99.0.0', 'cannot be loaded at version 99.0.0'),
        ('cifar10/nothing', 'BuilderConfig nothing not found'),
    ],
)
def test_splits_name_command_where_tensorflow_is_needed(tmp_path, name, message):
    with pytest.raises(UserError, match=message) as caught:
        open_source(f'tfds:{name}', 'train', str(tmp_path))
    assert '\n' not in str(caught.value)
    assert 'tensorflow' not in sys.modules


def test_splits_report_failing_builder(tmp_path, monkeypatch):
    from vitjax.data import builders

    def unreachable(self, dl_manager):
        raise OSError('no network\nat all')

    monkeypatch.setattr(builders.VitjaxDigits, '_splits', unreachable)
    with pytest.raises(UserError, match='tfds:vitjax_digits cannot be prepared: no network at all'):
        open_source('tfds:vitjax_digits', 'train', str(tmp_path))


def test_splits_report_damaged_dataset_info(prepared, tmp_path):
    import shutil

    shutil.copytree(prepared / 'vitjax_digits', tmp_path / 'vitjax_digits')
    info = next(tmp_path.rglob('dataset_info.json'))
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    for file in tmp_path.rglob('*array_record*'):
        file.rename(file.with_name(file.name.replace('array_record', 'tfrecord')))
    with pytest.raises(
        UserError, match='not in array_record but in tfrecord; prepare it in another'
    ):
        open_source('tfds:vitjax_digits', 'train', str(tmp_path))
