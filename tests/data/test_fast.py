import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_images import GRAY, PHOTO, encoded, rgba

from vitjax.data import fast, images
from vitjax.data.fast import fast_cut
from vitjax.data.images import Cut, EncodedImage, decode
from vitjax.data.preprocess import Preprocess
from vitjax.data.transforms import TrainImages
from vitjax.errors import CorruptExample, UserError

LARGE = Image.fromarray(PHOTO).resize((512, 384))
BILINEAR = Image.Resampling.BILINEAR


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(LARGE, 'JPEG', quality=95, exif=exif)


def cut(box, size):
    return Cut(lambda height, width: box, size, BILINEAR)


def distance(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).max()


@pytest.mark.parametrize(
    'content',
    [
        encoded(LARGE, 'JPEG', quality=95),
        encoded(LARGE, 'JPEG', quality=95, subsampling=0),
        encoded(LARGE, 'JPEG', quality=95, progressive=True),
        encoded(LARGE, 'JPEG', quality=95, keep_rgb=True),
        encoded(LARGE.convert('L'), 'JPEG', quality=95),
        encoded(LARGE.convert('CMYK'), 'JPEG', quality=95),
        turned(1),
        turned(6),
        encoded(LARGE, 'PNG'),
        encoded(rgba().resize((512, 384)), 'PNG'),
    ],
    ids=['JPEG', '4:4:4', 'progressive', 'RGB', 'gray', 'CMYK', 'Exif', 'turned', 'PNG', 'RGBA'],
)
@pytest.mark.parametrize('channels', [None, 1, 3, 4])
@pytest.mark.parametrize(
    ('box', 'size'),
    [((20, 30, 100, 200), (130, 224)), ((0, 0, 200, 300), (50, 60)), ((9, 9, 350, 350), (24, 40))],
    ids=['larger', 'smaller', 'much smaller'],
)
def test_it_is_near_the_exact_cut(content, channels, box, size):
    found = fast_cut(EncodedImage(content, 'x'), channels, cut(box, size))
    assert found.dtype == np.uint8
    assert distance(found, decode(content, channels, cut(box, size))) <= 10


@pytest.mark.parametrize('image', [PHOTO, GRAY, Image.fromarray(PHOTO)])
def test_of_what_is_decoded_already(image):
    found = fast_cut(image, 3, cut((4, 5, 20, 30), (40, 60)))
    assert distance(found, decode(image, 3, cut((4, 5, 20, 30), (40, 60)))) <= 2
    assert distance(fast_cut(PHOTO, 3, images.central_cut((48, 64))), PHOTO) == 0


def test_a_much_smaller_image_holds_means_not_single_pixels():
    checks = np.indices((240, 240)).sum(axis=0) % 2 * 255
    content = encoded(Image.fromarray(checks.astype(np.uint8)), 'PNG')
    found = fast_cut(EncodedImage(content, 'x'), None, cut((0, 0, 240, 240), (60, 60)))
    assert np.abs(found.astype(int) - 128).max() <= 1


sides = st.integers(1, 40)


@given(height=sides, width=sides, size=st.tuples(sides, sides), data=st.data())
def test_any_box_has_a_pixel(height, width, size, data):
    top, left = (data.draw(st.floats(0, side - 0.1)) for side in (height, width))
    inner = (data.draw(st.floats(0.1, n - at)) for n, at in ((height, top), (width, left)))
    box = top, left, *inner
    image = np.zeros((height, width, 3), np.uint8)
    assert fast_cut(image, 3, cut(box, size)).shape == (*size, 3)
    content = encoded(Image.fromarray(image), 'JPEG')
    assert fast_cut(EncodedImage(content, 'x'), 3, cut(box, size)).shape == (*size, 3)


JPEG = encoded(Image.fromarray(PHOTO), 'JPEG')


@pytest.mark.parametrize('content', [b'', b'no image', JPEG[:400], encoded(rgba(), 'PNG')[:100]])
def test_a_damaged_file_is_named(content, tmp_path):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(content)
    with pytest.raises(CorruptExample, match=r'broken\.jpg'):
        fast_cut(EncodedImage(path, str(path)), 3, cut((0, 0, 9, 9), (4, 4)))


def test_what_pillow_reads_nevertheless_is_read():
    content = JPEG[:20] + b'\0\0' + JPEG[20:]  # which simplejpeg refuses
    found = fast_cut(EncodedImage(content, 'x'), 3, cut((0, 0, 40, 40), (40, 40)))
    assert distance(found, decode(content)[:40, :40]) == 0


def test_training_images_are_near_the_exact_ones():
    content = encoded(LARGE, 'JPEG', quality=95)
    preprocess = Preprocess((60, 50), 3, 1.0, (0.5,), (0.5,), 'bilinear')
    augment = {'crop': (0.1, 1.0), 'flip': True}
    exact, quick = (TrainImages(preprocess, augment | {'fast': value}) for value in (False, True))
    for seed in range(10):
        example = {'image': EncodedImage(content, 'x'), 'label': 1}
        one, other = (t(example, np.random.default_rng(seed))['image'] for t in (exact, quick))
        assert distance(one, other) <= 10


@pytest.mark.parametrize('missing', ['cv2', 'simplejpeg'])
def test_the_extra_is_named(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    fast.libraries.cache_clear()
    preprocess = Preprocess((8, 8), 3, 1.0, (0.5,), (0.5,))
    with pytest.raises(UserError, match=rf"{missing}: pip install 'vitjax\[fast-images\]'"):
        TrainImages(preprocess, {'fast': True})
