import json

import numpy as np
import pytest
from PIL import Image
from sample_images import PHOTO, encoded

from vitjax.data.preprocess import Preprocess, settings_for_channels
from vitjax.errors import UserError


def preprocess(**changes):
    options = {'image_size': (8, 12), 'channels': 3, 'crop': 1.0, 'mean': (0.5,), 'std': (0.25,)}
    return Preprocess(**(options | changes))


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_call_takes_one_image_or_several(channels, tmp_path):
    path = tmp_path / 'photo.png'
    path.write_bytes(encoded(Image.fromarray(PHOTO), 'PNG'))
    prepare = preprocess(channels=channels)
    expected = prepare(PHOTO)
    assert expected.shape == (1, 8, 12, channels)
    assert expected.dtype == np.float32
    for image in (path, path.read_bytes(), Image.fromarray(PHOTO), [PHOTO], PHOTO[None]):
        # Files are converted to gray before resizing, arrays after it: the rounding differs.
        np.testing.assert_allclose(prepare(image), expected, atol=0.04)
    np.testing.assert_array_equal(prepare([PHOTO, PHOTO])[1:], expected)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_normalise_scales_integers_to_one(dtype):
    most = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = np.array([0, most], dtype).reshape(1, 1, 2, 1)
    values = preprocess(channels=1).normalise(pixels)
    np.testing.assert_allclose(values.ravel(), [-2, 2])


def test_normalise_uses_mean_and_std_of_each_channel():
    values = preprocess(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25)).normalise(
        np.full((1, 1, 1, 3), 255, np.uint8)
    )
    np.testing.assert_allclose(values.ravel(), [1, 1, 0])


def test_pixels_crops_and_fit_does_not():
    image = np.zeros((16, 24, 3), np.uint8)
    image[4:12, 6:18] = 255  # the central crop of half the side
    prepare = preprocess(crop=0.5, interpolation='nearest')
    assert prepare.pixels(image).min() == 255
    assert prepare.fit(image).min() == 0
    assert prepare.pixels(image).shape == prepare.fit(image).shape == (8, 12, 3)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'channels': 0}, 'at least 1 channel, not 0'),
        ({'crop': 0.0}, 'crop must be above 0 and at most 1, not 0.0'),
        ({'crop': 1.5}, 'crop must be above 0 and at most 1, not 1.5'),
        ({'mean': (0.5, 0.5)}, 'mean has 2 values for 3 channels'),
        ({'std': (0.5,) * 4}, 'std has 4 values for 3 channels'),
        ({'std': (0.0,)}, 'std must be positive'),
        ({'interpolation': 'bicubik'}, "unknown interpolation 'bicubik'; did you mean 'bicubic'"),
    ],
)
def test_preprocess_refuses_invalid_arguments(changes, message):
    with pytest.raises(UserError, match=message):
        preprocess(**changes)


def test_load_equals_saved(tmp_path):
    saved = preprocess(mean=(0.1, 0.2, 0.3), squash=True, interpolation='lanczos')
    saved.save(tmp_path)
    assert Preprocess.load(tmp_path) == saved


@pytest.mark.parametrize(
    'content', [None, 'no JSON', '[]', '{}', json.dumps({'image_size': [8, 8], 'colour': 3})]
)
def test_load_reports_damaged_file(content, tmp_path):
    if content is not None:
        (tmp_path / 'preprocess.json').write_text(content)
    with pytest.raises(UserError, match=r'preprocess\.json') as caught:
        Preprocess.load(tmp_path)
    assert '\n' not in str(caught.value)


def test_settings_for_channels_average_over_rgb():
    given = {'mean': (0.1, 0.2, 0.6), 'std': 0.5, 'crop': 0.9}
    gray = settings_for_channels(1, given)
    assert gray['mean'] == pytest.approx((0.3,))
    assert gray['std'] == (0.5,)
    assert gray['crop'] == 0.9
    assert settings_for_channels(3, given)['mean'] == (0.1, 0.2, 0.6)
