import numpy as np
import pytest
from PIL import ImageEnhance, ImageOps
from sample_images import PHOTO

from vitjax.data.images import to_array, to_picture
from vitjax.data.randaugment import OPERATIONS, rand_augment

# A gradient has no edges to sharpen.
NOISY = PHOTO // 2 + np.random.default_rng(0).integers(96, 128, PHOTO.shape, np.uint8)
IMAGES = pytest.mark.parametrize('image', [NOISY, NOISY[..., :1]], ids=['RGB', 'L'])
WITHOUT_MAGNITUDE = ('identity', 'autocontrast', 'equalize')


def apply(name, image, magnitude):
    found = to_array(OPERATIONS[name](to_picture(image), magnitude))
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    return found


@IMAGES
@pytest.mark.parametrize('name', OPERATIONS)
def test_operations_scale_with_magnitude(image, name):
    none, weak, strong = (apply(name, image, magnitude) for magnitude in (0.0, 0.3, 1.0))
    if name in WITHOUT_MAGNITUDE:
        np.testing.assert_array_equal(none, strong)
        return
    np.testing.assert_array_equal(none, image)
    if name == 'color' and image.shape[-1] == 1:  # which gray has none of
        np.testing.assert_array_equal(strong, image)
        return
    changes = [np.abs(x.astype(int) - image).mean() for x in (weak, strong)]
    assert 0 < changes[0] < changes[1]


def enhanced(kind, factor):
    return to_array(kind(to_picture(NOISY)).enhance(factor))


def rotated(degrees):
    return to_array(to_picture(NOISY).rotate(degrees, fillcolor=(128,) * 3))


# At the greatest magnitude, one way and the other.
@pytest.mark.parametrize(
    ('name', 'there', 'back'),
    [
        ('autocontrast', to_array(ImageOps.autocontrast(to_picture(NOISY))), None),
        ('equalize', to_array(ImageOps.equalize(to_picture(NOISY))), None),
        ('rotate', rotated(30), rotated(-30)),
        ('solarize', 255 - NOISY, None),
        ('posterize', NOISY & 0xF0, None),
        *(
            (kind.__name__.lower(), enhanced(kind, 1.9), enhanced(kind, 0.1))
            for kind in (
                ImageEnhance.Color,
                ImageEnhance.Contrast,
                ImageEnhance.Brightness,
                ImageEnhance.Sharpness,
            )
        ),
    ],
)
def test_operations_do_what_their_names_say(name, there, back):
    np.testing.assert_array_equal(apply(name, NOISY, 1.0), there)
    np.testing.assert_array_equal(apply(name, NOISY, -1.0), there if back is None else back)


@pytest.mark.parametrize('sign', [1, -1])
def test_translate_and_shear_have_autoaugment_ranges(sign):
    image = np.full((331, 331, 1), 10, np.uint8)
    image[165] = image[:, 165] = 200  # a cross through the middle
    across, down = (apply(f'translate_{axis}', image, sign)[..., 0] for axis in 'xy')
    for moved in (across, down.T):
        assert (moved == 128).all(axis=0).sum() == 150
        assert (moved[:, 165 - sign * 150] == 200).all()
    across, down = (apply(f'shear_{axis}', image, sign)[..., 0] for axis in 'xy')
    for sheared in (across, down.T):
        assert (sheared[165, :] >= 128).all()
        # The line through the middle leans: 30 pixels to a side, 100 further up or down.
        assert sheared[65, 165 + sign * 30] == sheared[265, 165 - sign * 30] == 200
        assert sheared[65, 165 - sign * 30] != 200


@IMAGES
def test_rand_augment_is_a_function_of_rng(image):
    before = image.copy()
    once, again = (rand_augment(image, np.random.default_rng(3), 2, 0.5) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    several = [rand_augment(image, np.random.default_rng(seed), 2, 0.5) for seed in range(20)]
    assert len({x.tobytes() for x in several}) > 10
    np.testing.assert_array_equal(image, before)


def test_rand_augment_draws_all_operations_with_both_signs(monkeypatch):
    drawn = set()
    for name in OPERATIONS:

        def remember(picture, magnitude, name=name):
            drawn.add((name, magnitude))
            return picture

        monkeypatch.setitem(OPERATIONS, name, remember)
    found = rand_augment(PHOTO, np.random.default_rng(0), 400, 0.7)
    np.testing.assert_array_equal(found, PHOTO)
    assert drawn == {(name, sign * 0.7) for name in OPERATIONS for sign in (-1, 1)}
