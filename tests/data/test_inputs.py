import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sample_images import PHOTO

from vitjax.config import base_config
from vitjax.data.arrays import Arrays
from vitjax.data.images import EncodedImage
from vitjax.data.inputs import DataOptions, ExampleData, open_examples, read_labels
from vitjax.data.sources import PLACEHOLDER_SPLIT
from vitjax.data.transforms import value_of
from vitjax.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
LABELS = np.arange(10) % 2
KEYS = dict(base_config().data) | {
    'name': None,
    'path': None,
    'train_split': 'train',
    'eval_split': 'test',
    'mean': (0.5,),
    'std': (0.5,),
    'crop': 1.0,
    'interpolation': 'bicubic',
    'squash': False,
    'threads': 2,
}


def source(name, count=10):
    return Arrays(name, PIXELS[:count], LABELS[:count], ('even', 'odd'))


def options(model=None, **changes):
    model = model or SimpleNamespace(image_size=6, in_channels=3)
    splits = {'train': source('train'), 'test': source('test', 5)}
    given = {'keys': KEYS, 'text': {}, 'augment': {'name': 'standard'}, 'seed': 0, 'splits': splits}
    return DataOptions(model=model, **(given | changes))


def transform(example, rng, *, augment, train):
    example = augment(example, rng)
    return {'image': example['image'], 'label': np.int32(value_of(example, 'label'))}


def opened(**changes) -> ExampleData:
    return open_examples(options(**changes), transform)


@pytest.mark.parametrize('train', [True, False])
def test_batch_shapes_equal_those_of_batches(train):
    data = opened()
    batches = (data.train_batches if train else data.eval_batches)(4, (0, 1))
    iterator = iter(batches)
    batch = next(iterator)
    iterator.close()
    shapes = data.batch_shapes(4, train)
    assert {k: (v.shape, v.dtype) for k, v in shapes.items()} == {
        k: (v.shape, v.dtype) for k, v in batch.items()
    }
    assert batch['image'].shape == (4, 6, 6, 3)


def test_eval_batches_have_each_example_once():
    batches = list(opened().eval_batches(4, (0, 1)))
    assert [batch['mask'].sum() for batch in batches] == [4, 1]


def test_on_device_normalises_images_only():
    batch = {'image': jnp.full((1, 6, 6, 3), 255, jnp.uint8), 'label': jnp.array([1])}
    found = jax.jit(opened().on_device)(batch)
    np.testing.assert_allclose(found['image'], 1)
    np.testing.assert_array_equal(found['label'], [1])


def test_open_examples_without_training_opens_evaluation_only():
    data = opened(training=False)
    assert data.train is PLACEHOLDER_SPLIT
    assert data.labels == ('even', 'odd')
    assert data.batch_shapes(4, train=False)['image'].shape == (4, 6, 6, 3)


def test_open_examples_without_reading_has_the_same_image_shape():
    data = opened(read=False)
    assert data.train is data.evaluation is PLACEHOLDER_SPLIT
    read = opened().batch_shapes(4)
    assert data.batch_shapes(4) == read


def test_open_examples_takes_size_of_images_where_the_model_has_none():
    data = opened(model=SimpleNamespace())
    assert data.preprocess.image_size == (8, 8)
    assert data.preprocess.channels == 3


def test_batch_shapes_skip_corrupt_examples():
    corrupt = {'image': EncodedImage(b'no image', 'broken.jpg'), 'label': 0}
    good = {'image': PIXELS[0], 'label': 1}
    data = opened(splits={'train': [corrupt, good], 'test': [corrupt]})
    assert data.batch_shapes(2)['image'].shape == (2, 6, 6, 3)
    with pytest.raises(UserError, match='all 1 examples are corrupt'):
        data.batch_shapes(2, train=False)


def test_batch_shapes_name_an_invalid_example():
    data = opened(splits={'train': [{'image': PIXELS[0]}], 'test': source('test')})
    with pytest.raises(UserError, match=r"example 0 of .*: it has no 'label'"):
        data.batch_shapes(2)


def test_save_writes_labels_preprocessing_and_an_example(tmp_path):
    opened().save(tmp_path)
    assert read_labels(tmp_path) == ('even', 'odd')
    assert (tmp_path / 'preprocess.json').is_file()
    with Image.open(tmp_path / 'examples' / 'even.png') as picture:
        np.testing.assert_array_equal(picture, PIXELS[0])


def test_save_skips_corrupt_examples(tmp_path):
    corrupt = {'image': EncodedImage(b'no image', 'broken.jpg'), 'label': 7}
    opened(splits={'train': [corrupt], 'test': [corrupt, {'image': PHOTO, 'label': 3}]}).save(
        tmp_path
    )
    assert [path.name for path in (tmp_path / 'examples').iterdir()] == ['3.png']


def test_read_labels_of_a_run_without_labels(tmp_path):
    (tmp_path / 'labels.json').write_text('null')
    assert read_labels(tmp_path) is None
    (tmp_path / 'labels.json').write_text(json.dumps([1, 2]))
    with pytest.raises(UserError, match=r'labels\.json is damaged: it is not a list of names'):
        read_labels(tmp_path)
