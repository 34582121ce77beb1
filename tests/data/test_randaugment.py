import numpy as np
import pytest
from sample_images import PHOTO

from vitjax.data.images import to_array, to_picture
from vitjax.data.randaugment import OPERATIONS, rand_augment

# A gradient has no edges to sharpen.
NOISY = PHOTO // 2 + np.random.default_rng(0).integers(96, 128, PHOTO.shape, np.uint8)
IMAGES = pytest.mark.parametrize('image', [NOISY, NOISY[..., :1]], ids=['RGB', 'L'])
WITHOUT_STRENGTH = ('identity', 'autocontrast', 'equalize')


def apply(name, image, strength):
    found = to_array(OPERATIONS[name](to_picture(image), strength))
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    return found


@IMAGES
@pytest.mark.parametrize('name', OPERATIONS)
def test_an_operation_acts_by_its_strength(image, name):
    none, weak, strong = (apply(name, image, strength) for strength in (0.0, 0.3, 1.0))
    if name in WITHOUT_STRENGTH:
        np.testing.assert_array_equal(none, strong)
        return
    np.testing.assert_array_equal(none, image)
    if name == 'color' and image.shape[-1] == 1:  # which gray has none of
        np.testing.assert_array_equal(strong, image)
        return
    changes = [np.abs(x.astype(int) - image).mean() for x in (weak, strong)]
    assert 0 < changes[0] < changes[1]


def test_each_does_what_its_name_says():
    height, width = PHOTO.shape[:2]
    np.testing.assert_array_equal(apply('solarize', PHOTO, 1.0), 255 - PHOTO)
    np.testing.assert_array_equal(apply('posterize', PHOTO, -1.0), PHOTO & 0xF0)
    assert (
        apply('brightness', PHOTO, 1.0).mean()
        > PHOTO.mean()
        > apply('brightness', PHOTO, -1.0).mean()
    )
    assert apply('contrast', PHOTO, -1.0).std() < PHOTO.std() < apply('contrast', PHOTO, 1.0).std()
    assert np.ptp(apply('color', PHOTO, -1.0), axis=-1).mean() < np.ptp(PHOTO, axis=-1).mean()
    for name, axis, side in (('translate_x', 1, width), ('translate_y', 0, height)):
        pixels = 3
        moved = apply(name, PHOTO, pixels / side / (150 / 331))
        np.testing.assert_array_equal(
            np.delete(moved, np.s_[-pixels:], axis), np.delete(PHOTO, np.s_[:pixels], axis)
        )
        assert (np.take(moved, range(-pixels, 0), axis) == 128).all()
    for name in ('rotate', 'shear_x', 'shear_y'):
        square = PHOTO[:, : min(height, width)]
        there, back = apply(name, square, 1.0), apply(name, square[::-1, ::-1], 1.0)
        # About the middle: turning everything by half a turn changes nothing.
        assert np.abs(there.astype(int) - back[::-1, ::-1]).mean() < 3
        assert (there == 128).all(-1).any()


@IMAGES
def test_random_numbers_settle_everything(image):
    before = image.copy()
    once, again = (rand_augment(image, np.random.default_rng(3), 2, 0.5) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    several = [rand_augment(image, np.random.default_rng(seed), 2, 0.5) for seed in range(20)]
    assert len({x.tobytes() for x in several}) > 10
    np.testing.assert_array_equal(image, before)


def test_all_operations_are_drawn_both_ways(monkeypatch):
    drawn = set()
    for name in OPERATIONS:

        def remember(picture, strength, name=name):
            drawn.add((name, strength))
            return picture

        monkeypatch.setitem(OPERATIONS, name, remember)
    found = rand_augment(PHOTO, np.random.default_rng(0), 400, 0.7)
    np.testing.assert_array_equal(found, PHOTO)
    assert drawn == {(name, sign * 0.7) for name in OPERATIONS for sign in (-1, 1)}
