import numpy as np
import pytest

from vitjax.data.sources import open_source
from vitjax.errors import UserError


def test_splits_have_known_sizes_and_values():
    train, test = (open_source('digits', split) for split in ('train', 'test'))
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape == (1437, 8, 8, 1)
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.labels == tuple('0123456789')


@pytest.mark.parametrize('split', ['test', 'train[:10%]', 'train[40%:60%]', 'train[-100:]'])
def test_splits_are_stratified(split):
    source = open_source('digits', split)
    counts = np.bincount([source[index]['label'] for index in range(len(source))])
    assert counts.max() - counts.min() <= 3


def test_splits_partition_the_images():
    from sklearn.datasets import load_digits

    split = open_source('digits', 'train+test')
    ours = sorted(split[index]['image'].tobytes() for index in range(len(split)))
    assert ours == sorted(
        np.round(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images
    )


def test_splits_refuse_a_path():
    with pytest.raises(UserError, match='has no path'):
        open_source('digits', 'train', '/data')
