import functools
import itertools
import pickle

import numpy as np
import pytest
from sample_images import GRAY, PHOTO, encoded, rgba

from vitjax.data import transforms
from vitjax.data.inputs import TaskTransform
from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError
from vitjax.tasks.classification import labelled

RNG = np.random.default_rng(0)


def train_images(preprocess, augment, num_classes=None):
    """The transform of training examples of classification."""
    augment = transforms.StandardAugment(preprocess, **augment)
    return TaskTransform(functools.partial(labelled, num_classes=num_classes), augment, True)


def eval_images(preprocess, num_classes=None):
    """The transform of evaluation examples of classification."""
    prepare = transforms.Preprocessed(preprocess)
    return TaskTransform(functools.partial(labelled, num_classes=num_classes), prepare, False)


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
    ],
)
def test_standard_augment_shapes_and_dtypes(image, channels, augment):
    if dict(augment).get('randaugment') and channels == 4:
        with pytest.raises(UserError, match='randaugment is for images of 1 or 3 channels, not 4'):
            train_images(preprocess(channels), augment)
        return
    transform = pickle.loads(pickle.dumps(train_images(preprocess(channels), augment)))
    example = {'image': image, 'label': 7}
    once, again, other = (transform(example, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once['image'].shape == (20, 30, channels)
    assert (once['image'].dtype, once['label'].dtype, once['label']) == (np.uint8, np.int32, 7)
    np.testing.assert_array_equal(once['image'], again['image'])
    assert np.array_equal(once['image'], other['image']) != bool(augment)


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_preprocessed_shapes_and_dtypes(channels):
    transform = pickle.loads(pickle.dumps(eval_images(preprocess(channels))))
    result = transform({'image': PHOTO, 'label': np.int64(3)}, RNG)
    assert result['image'].shape == (20, 30, channels)
    assert result['label'].dtype == np.int32
    with pytest.raises(UserError, match="it has no 'label', but 'image'"):
        transform({'image': PHOTO}, RNG)


@pytest.mark.parametrize('squash', [False, True])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_preprocessed_equals_preprocess_call(interpolation, squash):
    changes = {'interpolation': interpolation, 'squash': squash}
    for crop in (0.8, 1.0):
        use = preprocess(3, crop=crop, **changes)
        seen = eval_images(use)({'image': PHOTO, 'label': 0}, RNG)['image']
        np.testing.assert_array_equal(use.normalise(seen[None]), use(PHOTO))
        for name, other in [('squash', not squash), ('interpolation', 'nearest')]:
            others = eval_images(preprocess(3, crop=crop, **changes | {name: other}))
            assert not np.array_equal(others({'image': PHOTO, 'label': 0}, RNG)['image'], seen)
        trained = train_images(use, {})({'image': PHOTO, 'label': 0}, RNG)['image']
        assert np.array_equal(trained, seen) == (crop == 1)


def test_standard_augment_crops_with_interpolation_of_preprocess():
    crops = [
        train_images(preprocess(3, interpolation=name), {'crop': (0.1, 1.0)})(
            {'image': PHOTO, 'label': 0}, np.random.default_rng(0)
        )['image'].astype(float)
        for name in ('bilinear', 'bicubic', 'nearest')
    ]
    for one, other in itertools.combinations(crops, 2):
        assert 0 < np.abs(one - other).mean() < 10  # of the same box, by another filter


@pytest.mark.parametrize('key', ['crop', 'aspect'])
def test_standard_augment_refuses_bounds_out_of_order(key):
    with pytest.raises(UserError, match=f'config.augment.{key}'):
        train_images(preprocess(1), {key: (0.9, 0.5)})


@pytest.mark.parametrize('label', [-1, 3])
def test_check_label_refuses_labels_without_class(label):
    example = {'image': PHOTO, 'label': label}
    for transform in (
        train_images(preprocess(3), {}, 3),
        eval_images(preprocess(3), 3),
    ):
        with pytest.raises(UserError, match=f'its label is {label}, but there are 3 classes'):
            transform(example, RNG)
        assert transform(example | {'label': 2}, RNG)['label'] == 2
    assert eval_images(preprocess(3))(example, RNG)['label'] == label


def test_standard_augment_refuses_shift_by_whole_image():
    with pytest.raises(UserError, match=r'config.augment.shift: \d+ pixels move .* out of sight'):
        train_images(preprocess(1), {'shift': min(preprocess(1).image_size)})


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [1, 2, 3, 7])
def test_standard_augment_keeps_dtype_and_channels(dtype, channels):
    image = (np.random.default_rng(0).random((20, 30, channels)) * 255).astype(dtype)
    augment = transforms.StandardAugment(preprocess(channels), flip=True, shift=2)
    for transform in (augment, transforms.Preprocessed(preprocess(channels))):
        seen = transform({'image': image, 'other': 1.5}, np.random.default_rng(1))
        assert (seen['image'].dtype, seen['other']) == (dtype, 1.5)
        assert np.isin(seen['image'], np.append(image.ravel(), 0)).all()
    larger = preprocess(channels, size=(40, 60)).pixels(image)
    assert (larger.shape, larger.dtype) == ((40, 60, channels), dtype)
    assert abs(larger.mean() / image.mean() - 1) < 0.02


def test_standard_augment_refuses_to_warp_other_dtypes():
    augment = transforms.StandardAugment(preprocess(3), rotate=10.0)
    with pytest.raises(UserError, match='for images of 8 bits'):
        augment({'image': np.zeros((20, 30, 3), np.float32)}, RNG)


def halved(example, rng):
    return example | {'image': example['image'] // 2, 'drawn': rng.random()}


def test_augmented_decodes_before_and_resizes_after():
    augment = transforms.make_augment(halved, {}, preprocess(3))
    example = augment({'image': encoded(rgba(), 'PNG')}, np.random.default_rng(0))
    assert (example['image'].shape, example['image'].dtype) == ((20, 30, 3), np.uint8)
    assert 0 < example['drawn'] < 1
    with pytest.raises(UserError, match='returned int, but an example is a dict'):
        transforms.make_augment(lambda example, rng: 3, {}, preprocess(3))({'image': PHOTO}, RNG)


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (3, np.int32(3)),
        (1.5, np.float32(1.5)),
        (True, np.bool_(True)),
        (np.float64([1, 2]), np.float32([1, 2])),
        (np.uint16([1, 2]), np.uint16([1, 2])),
        (np.float16(1), np.float16(1)),
    ],
)
def test_to_arrays_converts_to_device_dtypes(value, expected):
    array = transforms.to_arrays({'x': value})['x']
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ('example', 'message'),
    [
        ({'mask': np.ones(3)}, "key 'mask'"),
        ({'x': 'text'}, "its 'x' is str, not numbers"),
        ({'x': 2**40}, 'does not fit into int32'),
    ],
)
def test_to_arrays_refuses_invalid_values(example, message):
    with pytest.raises(UserError, match=message):
        transforms.to_arrays(example)


@pytest.mark.parametrize(
    ('given', 'returned', 'fits'),
    [
        ('uint8', 'uint8', True),
        ('float32', 'float64', True),
        ('uint8', 'float32', False),
        ('uint8', 'uint16', False),
        ('float32', 'uint8', False),
    ],
)
def test_own_augmentation_returns_the_dtype_it_was_given(given, returned, fits):
    """Integers are scaled before they are normalised, floats are not."""

    def convert(example, rng):
        return example | {'image': example['image'].astype(returned)}

    augment = transforms.make_augment(convert, {}, preprocess(1, (6, 6)))
    example = {'image': np.ones((6, 6, 1), given)}
    if fits:
        assert augment(example, np.random.default_rng(0))['image'].shape == (6, 6, 1)
        return
    with pytest.raises(UserError, match=f'an image of {returned} for one of {given}'):
        augment(example, np.random.default_rng(0))
