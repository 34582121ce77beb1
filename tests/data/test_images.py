import io

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_images import GRAY, PHOTO, encoded, jpeg, rgba

from vitjax.data import images
from vitjax.errors import CorruptExample, UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('form', ['PNG', 'BMP', 'TIFF', 'PPM', 'WEBP', 'JPEG'])
def test_decode_formats(form, tmp_path):
    options = {'lossless': True} if form == 'WEBP' else {'quality': 98} if form == 'JPEG' else {}
    data = encoded(Image.fromarray(PHOTO), form, **options)
    path = tmp_path / 'image'
    path.write_bytes(data)
    for source in (data, path, str(path), images.EncodedImage(data, 'x')):
        pixels = images.decode(source)
        assert pixels.dtype == np.uint8
        tolerance = 6 if form == 'JPEG' else 0
        assert np.abs(pixels.astype(int) - PHOTO).max() <= tolerance


def natural(mode):
    return {
        '1': Image.fromarray(GRAY > 100),
        'L': Image.fromarray(GRAY),
        'LA': rgba().convert('LA'),
        'P': Image.fromarray(PHOTO).quantize(64),
        'RGB': Image.fromarray(PHOTO),
        'RGBA': rgba(),
        'I;16': Image.fromarray(GRAY.astype(np.uint16) * 257),
    }[mode]


@pytest.mark.parametrize(
    ('mode', 'channels'),
    [('1', 1), ('L', 1), ('LA', 4), ('P', 3), ('RGB', 3), ('RGBA', 4), ('I;16', 1)],
)
@pytest.mark.parametrize('wanted', [None, 1, 3, 4])
def test_decode_channels(mode, channels, wanted):
    picture = natural(mode)
    pixels = images.decode(encoded(picture, 'PNG'), wanted)
    assert pixels.shape == (48, 64, wanted or channels)
    assert pixels.dtype == np.uint8
    if mode in ('L', 'I;16'):
        np.testing.assert_array_equal(pixels[..., 0], GRAY)
    if mode in ('RGB', 'RGBA') and wanted != 1:
        np.testing.assert_array_equal(pixels[..., :3], PHOTO)
    if mode == 'RGBA' and wanted in (None, 4):
        np.testing.assert_array_equal(pixels[..., 3], 255 - GRAY)


def test_palette_with_transparency_becomes_rgba():
    picture = Image.fromarray(PHOTO).quantize(16)
    data = encoded(picture, 'PNG', transparency=bytes([0] + [255] * 15))
    assert images.decode(data).shape == (48, 64, 4)
    assert images.decode(data, 3).shape == (48, 64, 3)


@pytest.mark.parametrize('value', [0, 128, 257, 40_000, 65_535])
@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'PPM'])
def test_16_bits_are_scaled(value, form):
    data = encoded(Image.fromarray(np.full((2, 3), value, np.uint16)), form)
    np.testing.assert_array_equal(images.decode(data), round(value / 257))


@pytest.mark.parametrize('orientation', range(1, 10))  # 9 means nothing
@pytest.mark.parametrize('size', [(24, 40), (40, 24), (3, 5)])
def test_decode_cut_follows_exif_orientation(orientation, size):
    data = jpeg(Image.fromarray(PHOTO).resize((512, 384)), orientation)
    whole = images.decode(data)
    assert whole.shape == ((512, 384, 3) if 5 <= orientation <= 8 else (384, 512, 3))
    cut = images.decode(data, 3, images.central_cut(size, 0.9))
    assert (
        np.abs(cut.astype(int) - images.decode(whole, 3, images.central_cut(size, 0.9))).max() <= 8
    )


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'no image',
        encoded(Image.fromarray(PHOTO), 'JPEG')[:400],
        encoded(Image.fromarray(PHOTO), 'PNG')[:100],
        encoded(Image.fromarray(np.zeros((2, 2), np.float32)), 'TIFF'),
    ],
    ids=['empty', 'text', 'cut JPEG', 'cut PNG', 'floats'],
)
def test_decode_names_corrupt_file(data, tmp_path):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(data)
    for source in (path, images.EncodedImage(data, str(path))):
        with pytest.raises(CorruptExample, match=r'broken\.jpg') as caught:
            images.decode(source)
        assert '\n' not in str(caught.value)


def test_decode_refuses_missing_file_and_wrong_array():
    with pytest.raises(CorruptExample, match=r'no file /nowhere\.png'):
        images.decode('/nowhere.png')
    for array in (np.zeros((4, 0, 3), np.uint8), np.zeros((4, 4), int), np.zeros(4, np.uint8)):
        with pytest.raises(
            UserError, match=r'an image is \[height, width, channels\], uint8, uint16 or float'
        ):
            images.decode(array)


@pytest.mark.parametrize('image', [PHOTO, GRAY, Image.fromarray(PHOTO), jnp.array(PHOTO)])
def test_decode_takes_arrays_and_pictures(image):
    np.testing.assert_array_equal(
        images.decode(image, 3), PHOTO if image is not GRAY else np.dstack([GRAY] * 3)
    )


def test_decode_does_not_change_picture_of_caller():
    picture = Image.open(io.BytesIO(jpeg(Image.fromarray(PHOTO))))
    images.decode(picture, 3, images.central_cut((4, 4)))
    assert picture.size == (64, 48)


def test_decode_cut_of_same_size_is_identity():
    assert images.decode(PHOTO, None, images.central_cut((48, 64))) is PHOTO


def test_central_cut_squash_keeps_whole_image():
    cut = images.decode(PHOTO, None, images.central_cut((32, 32), squash=True))
    whole = Image.fromarray(PHOTO).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(cut, whole)
    cut = images.central_cut((32, 32), 0.5, squash=True)
    assert cut.choose_box(48, 64) == (12, 16, 24, 32)


sides = st.integers(1, 60)


@given(height=sides, width=sides, size=st.tuples(sides, sides), crop=st.floats(0.1, 1))
def test_decode_cut_has_requested_size(height, width, size, crop):
    pixels = np.zeros((height, width, 3), np.uint8)
    assert images.decode(pixels, 3, images.central_cut(size, crop)).shape == (*size, 3)
