import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_images import GRAY, PHOTO, encoded, jpeg, rgba

from vitjax.data import fast, images
from vitjax.data.images import Cut, EncodedImage, decode
from vitjax.data.preprocess import Preprocess
from vitjax.data.transforms import StandardAugment
from vitjax.errors import CorruptExample, UserError

BILINEAR = Image.Resampling.BILINEAR
LARGE = Image.fromarray(PHOTO).resize((512, 384))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 80, 3), np.uint8))


def cut(box, size):
    return Cut(lambda height, width: box, size, BILINEAR)


def fast_cut(image, channels, cut):
    return decode(image, channels, dataclasses.replace(cut, fast=True))


def distance(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).max()


@pytest.mark.parametrize('picture', [NOISE, NOISE.convert('L')], ids=['colour', 'gray'])
@pytest.mark.parametrize('options', [{}, {'subsampling': 0}, {'progressive': True}])
@pytest.mark.parametrize('channels', [None, 1, 3, 4])
def test_resize_is_exact_without_scaling(picture, options, channels):
    content = jpeg(picture, **options)
    found = fast_cut(EncodedImage(content, 'x'), channels, cut((20, 30, 50, 40), (50, 40)))
    assert distance(found, decode(content, channels)[20:70, 30:70]) == 0


def test_decode_fast_reads_first_frame():
    content = encoded(NOISE, 'MPO', quality=95, save_all=True, append_images=[LARGE])
    found = fast_cut(EncodedImage(content, 'x'), 3, cut((20, 30, 50, 40), (50, 40)))
    assert distance(found, decode(jpeg(NOISE), 3)[20:70, 30:70]) == 0


def test_resize_interpolates_when_enlarging():
    content = jpeg(NOISE)
    box = cut((0, 0, 96, 80), (250, 190))
    found = fast_cut(EncodedImage(content, 'x'), 3, box)
    assert distance(found, decode(content, 3, box)) <= 2


@pytest.mark.parametrize('size', [(48, 48), (48, 300), (300, 48)])
def test_resize_averages_when_reducing_below_half(size):
    checks = np.indices((240, 240)).sum(axis=0) % 2 * 255
    content = jpeg(Image.fromarray(checks.astype(np.uint8)))
    found = fast_cut(EncodedImage(content, 'x'), None, cut((0, 0, 240, 240), size))
    assert np.abs(found.astype(int) - 128).max() <= 30  # of five there are two or three


@pytest.mark.parametrize(
    ('axis', 'box', 'size'),
    [(0, (0, 0, 400, 600), (400, 150)), (1, (0, 0, 800, 300), (200, 300))],
)
def test_decode_fast_scale_is_at_least_result_size(axis, box, size):
    stripes = np.indices((800, 600))[axis] // 4 % 2 * 255
    content = jpeg(Image.fromarray(stripes.astype(np.uint8)))
    assert fast_cut(EncodedImage(content, 'x'), 1, cut(box, size)).std() > 120


@pytest.mark.parametrize('orientation', range(10))
@pytest.mark.parametrize('shift', [0, 30_000])
def test_decode_fast_follows_exif_orientation(orientation, shift):
    # A long comment in front of the Exif data, which Pillow does not mind.
    content = jpeg(LARGE, orientation)
    comment = b'\xff\xfe' + (shift + 2).to_bytes(2, 'big') + b'a' * shift
    image = EncodedImage(content[:2] + comment + content[2:], 'x')
    box = images.central_cut((60, 50), 0.9, resample=BILINEAR)
    assert distance(fast_cut(image, 3, box), decode(image, 3, box)) <= 8


@pytest.mark.parametrize(
    'content',
    [
        jpeg(NOISE.convert('CMYK')),
        encoded(NOISE, 'PNG'),
        encoded(rgba(), 'PNG'),
        encoded(NOISE, 'WEBP'),
        PHOTO,
        GRAY,
    ],
    ids=['CMYK', 'PNG', 'RGBA', 'WebP', 'array', 'gray array'],
)
@pytest.mark.parametrize('channels', [None, 1, 3, 4])
def test_decode_fast_leaves_other_files_to_pillow(content, channels):
    image = EncodedImage(content, 'x') if isinstance(content, bytes) else content
    box = cut((4, 5, 20, 30), (40, 16))
    assert distance(fast_cut(image, channels, box), decode(image, channels, box)) == 0


sides = st.integers(1, 40)


@given(height=sides, width=sides, size=st.tuples(sides, sides), data=st.data())
def test_resize_accepts_any_box(height, width, size, data):
    def part(side):
        length = data.draw(st.floats(0.1, side))
        return data.draw(st.floats(0, side - length)), length

    (top, inner_height), (left, inner_width) = part(height), part(width)
    content = encoded(Image.fromarray(np.zeros((height, width, 3), np.uint8)), 'JPEG')
    box = cut((top, left, inner_height, inner_width), size)
    assert fast_cut(EncodedImage(content, 'x'), 3, box).shape == (*size, 3)


JPEG = jpeg(Image.fromarray(PHOTO))


@pytest.mark.parametrize('content', [b'', b'no image', JPEG[:400], encoded(rgba(), 'PNG')[:100]])
def test_decode_fast_names_damaged_file(content, tmp_path):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(content)
    with pytest.raises(CorruptExample, match=r'broken\.jpg'):
        fast_cut(EncodedImage(path, str(path)), 3, cut((0, 0, 9, 9), (4, 4)))


def test_standard_augment_fast_is_near_exact():
    preprocess = Preprocess((60, 50), 3, 1.0, (0.5,), (0.5,), 'bilinear')
    augment = {'crop': (0.1, 1.0), 'flip': True}
    exact, quick = (StandardAugment(preprocess, **augment, fast=value) for value in (False, True))
    for seed in range(10):
        example = {'image': EncodedImage(jpeg(LARGE), 'x'), 'label': 1}
        one, other = (t(example, np.random.default_rng(seed))['image'] for t in (exact, quick))
        assert distance(one, other) <= 8


def test_library_names_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    fast.library.cache_clear()
    preprocess = Preprocess((8, 8), 3, 1.0, (0.5,), (0.5,))
    with pytest.raises(UserError, match=r"cv2.*: pip install 'vitjax\[fast-images\]'"):
        StandardAugment(preprocess, fast=True)
