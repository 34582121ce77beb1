import itertools
import pickle

import numpy as np
import pytest
from sample_images import GRAY, PHOTO, encoded, rgba

from vitjax.config import Augment, base_config
from vitjax.data import transforms
from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError

RNG = np.random.default_rng(0)


def preprocess(channels, size=(20, 30), crop=1.0, **changes):
    return Preprocess(size, channels, crop, (0.4,), (0.25,), **changes)


def test_flip_and_shift():
    np.testing.assert_array_equal(transforms.flip(transforms.flip(PHOTO)), PHOTO)
    np.testing.assert_array_equal(transforms.flip(PHOTO)[:, 0], PHOTO[:, -1])
    moved = transforms.shift(PHOTO, 3, -5)
    np.testing.assert_array_equal(moved[3:, :-5], PHOTO[:-3, 5:])
    assert not moved[:3].any()
    assert not moved[:, -5:].any()
    np.testing.assert_array_equal(transforms.shift(PHOTO, 0, 0), PHOTO)
    assert not transforms.shift(PHOTO[:4, :4], 9, 9).any()


@pytest.mark.parametrize('image', [PHOTO, PHOTO[..., :1]])
def test_warp_rotates(image):
    square = image[:, :48]
    np.testing.assert_array_equal(transforms.warp(square), square)
    np.testing.assert_array_equal(transforms.warp(square, 90), np.rot90(square))
    assert transforms.warp(image, 10).shape == image.shape


def test_warp_scales_about_the_centre():
    dot = np.zeros((9, 9, 1), np.uint8)
    dot[3:6, 3:6] = 200
    larger, smaller = transforms.warp(dot, 0, (2, 2)), transforms.warp(dot, 0, (0.5, 0.5))
    assert (larger > 0).sum() > (dot > 0).sum() > (smaller > 0).sum() > 0
    for scaled in (larger, smaller):
        np.testing.assert_array_equal(scaled, scaled[::-1, ::-1])


@pytest.mark.parametrize(('down', 'right'), [(2, -3), (-5, 0), (0, 0)])
def test_warp_by_whole_pixels_is_a_shift(down, right):
    moved = transforms.warp(PHOTO, shift=(down, right))
    np.testing.assert_array_equal(moved, transforms.shift(PHOTO, down, right))


def test_warp_scales_each_axis_by_its_own():
    bar = np.full((10, 10, 1), 100, np.uint8)
    lower = transforms.warp(bar, 0, (0.5, 1.0))
    assert not lower[:2].any()
    assert lower[4:6].all()


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('image', [PHOTO, GRAY, encoded(rgba(), 'PNG')], ids=['RGB', 'L', 'PNG'])
@pytest.mark.parametrize(
    'augment',
    [
        {},
        {'crop': (0.1, 1.0)},
        {'flip': True, 'shift': 3, 'rotate': 10.0, 'scale': 0.2},
        {'scale': 0.3},
        {'randaugment': (2, 0.5)},
        base_config().augment,
    ],
)
def test_train_images(image, channels, augment):
    if dict(augment).get('randaugment') and channels == 4:
        with pytest.raises(UserError, match='randaugment is for images of 1 or 3 channels, not 4'):
            transforms.TrainImages(preprocess(channels), augment)
        return
    transform = pickle.loads(pickle.dumps(transforms.TrainImages(preprocess(channels), augment)))
    example = {'image': image, 'label': 7}
    once, again, other = (transform(example, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once['image'].shape == (20, 30, channels)
    assert (once['image'].dtype, once['label'].dtype, once['label']) == (np.uint8, np.int32, 7)
    np.testing.assert_array_equal(once['image'], again['image'])
    random = dict(augment) != {} and augment != base_config().augment
    assert np.array_equal(once['image'], other['image']) != random


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_eval_images(channels):
    transform = pickle.loads(pickle.dumps(transforms.EvalImages(preprocess(channels))))
    result = transform({'image': PHOTO, 'label': np.int64(3)}, RNG)
    assert result['image'].shape == (20, 30, channels)
    assert result['label'].dtype == np.int32
    with pytest.raises(UserError, match="it has no 'label', but 'image'"):
        transform({'image': PHOTO}, RNG)


@pytest.mark.parametrize('squash', [False, True])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_evaluation_sees_what_later_use_sees_and_training_the_whole_of_it(interpolation, squash):
    changes = {'interpolation': interpolation, 'squash': squash}
    for crop in (0.8, 1.0):
        use = preprocess(3, crop=crop, **changes)
        seen = transforms.EvalImages(use)({'image': PHOTO, 'label': 0}, RNG)['image']
        np.testing.assert_array_equal(use.normalise(seen[None]), use(PHOTO))
        for name, other in [('squash', not squash), ('interpolation', 'nearest')]:
            others = transforms.EvalImages(preprocess(3, crop=crop, **changes | {name: other}))
            assert not np.array_equal(others({'image': PHOTO, 'label': 0}, RNG)['image'], seen)
        trained = transforms.TrainImages(use, {})({'image': PHOTO, 'label': 0}, RNG)['image']
        assert np.array_equal(trained, seen) == (crop == 1)


def test_random_crops_are_resized_as_the_model_wants_it():
    crops = [
        transforms.TrainImages(preprocess(3, interpolation=name), {'crop': (0.1, 1.0)})(
            {'image': PHOTO, 'label': 0}, np.random.default_rng(0)
        )['image'].astype(float)
        for name in ('bilinear', 'bicubic', 'nearest')
    ]
    for one, other in itertools.combinations(crops, 2):
        assert 0 < np.abs(one - other).mean() < 10  # of the same box, by another filter


@pytest.mark.parametrize('key', ['crop', 'aspect'])
def test_bounds_out_of_order(key):
    with pytest.raises(UserError, match=f'config.augment.{key}'):
        transforms.TrainImages(preprocess(1), {key: (0.9, 0.5)})


@pytest.mark.parametrize('label', [-1, 3])
def test_labels_are_those_of_the_model(label):
    example = {'image': PHOTO, 'label': label}
    for transform in (
        transforms.TrainImages(preprocess(3), {}, 3),
        transforms.EvalImages(preprocess(3), 3),
    ):
        with pytest.raises(UserError, match=f'its label is {label}, but there are 3 classes'):
            transform(example, RNG)
        assert transform(example | {'label': 2}, RNG)['label'] == 2
    assert transforms.EvalImages(preprocess(3))(example, RNG)['label'] == label


def test_a_shift_by_the_whole_image():
    with pytest.raises(UserError, match=r'config.augment.shift: \d+ pixels move .* out of sight'):
        transforms.TrainImages(preprocess(1), {'shift': min(preprocess(1).image_size)})


def test_augment_defaults_are_those_of_the_config():
    assert transforms.TrainImages(preprocess(1), {}).augment == Augment()
