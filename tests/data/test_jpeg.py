import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_images import encoded, jpeg

from vitjax.data.images import Cut, decode
from vitjax.data.jpeg import decode_crop
from vitjax.errors import CorruptExample

# Low contrast, so that no value that interpolation overshoots is clipped to 0 or 255.
NOISE = Image.fromarray(np.random.default_rng(0).integers(96, 160, (200, 152, 3), np.uint8))
FILTERS = [
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
]


def read_by_pillow(content, channels, cut):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('vitjax.data.jpeg.decode_crop', lambda *_: None)
        return decode(content, channels, cut)


@st.composite
def contents(draw):
    # Pillow cannot write larger images of noise in memory: its buffer is too small.
    height, width = draw(st.integers(1, 140)), draw(st.integers(1, 150))
    picture = NOISE.crop((0, 0, width, height))
    options = {
        'quality': draw(st.sampled_from([30, 75, 95])),
        'subsampling': draw(st.sampled_from(['4:4:4', '4:2:2', '4:2:0'])),
        'progressive': draw(st.booleans()),
        'restart_marker_blocks': draw(st.sampled_from([0, 1, 5])),
        'keep_rgb': draw(st.booleans()),
    }
    if options['keep_rgb']:
        del options['subsampling']
    gray = draw(st.booleans())
    return (height, width), encoded(picture.convert('L') if gray else picture, 'JPEG', **options)


@settings(max_examples=300)
@given(
    file=contents(),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    channels=st.sampled_from([None, 1, 3, 4]),
    resample=st.sampled_from(FILTERS),
    data=st.data(),
)
def test_decode_cut_equals_pillow(file, size, channels, resample, data):
    def part(side):
        length = data.draw(st.floats(0.1, side))
        return data.draw(st.floats(0, side - length)), length

    whole, content = file
    (top, height), (left, width) = map(part, whole)
    cut = Cut(lambda *_: (top, left, height, width), size, resample)
    assert decode_crop(content, cut.choose_box, size, 2) is not None
    found, expected = decode(content, channels, cut), read_by_pillow(content, channels, cut)
    assert found.shape == expected.shape
    # The size of the image decides which side Pillow resizes first, hence the rounding.
    assert np.abs(found.astype(int) - expected).max() <= 3


@pytest.mark.parametrize('side', [4, 8, 20])
def test_decode_cut_weighs_pixels_around_the_box_like_pillow(side):
    values = np.full((200, 152), 100, np.uint8)
    reach = 2 * 40 // min(side, 40)
    values[:, 100 + reach] = values[:, 60 - 1 - reach] = values[80 + reach] = 255
    content = jpeg(Image.fromarray(values))
    cut = Cut(lambda *_: (40, 60, 40, 40), (side, side), Image.Resampling.LANCZOS)
    found, expected = decode(content, 1, cut), read_by_pillow(content, 1, cut)
    assert np.abs(found.astype(int) - expected).max() <= 1


@settings(max_examples=300)
@given(file=contents(), data=st.data())
def test_decode_pixels_equal_pillow(file, data):
    whole, content = file
    (top, bottom), (left, right) = (
        sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True)))
        for side in whole
    )
    size = bottom - top, right - left
    cut = Cut(lambda *_: (top, left, *size), size, FILTERS[0])
    np.testing.assert_array_equal(decode(content, 3, cut), read_by_pillow(content, 3, cut))


@pytest.mark.parametrize('size', [(50, 50), (10, 50), (10, 10), (5, 5), (2, 2)])
def test_decode_crop_takes_smallest_scale(size):
    pixels, (top, left, height, width) = decode_crop(
        jpeg(NOISE), lambda *_: (40, 60, 80, 80), size, 1
    )
    scale = height / 80
    assert scale in (1, 1 / 2, 1 / 4, 1 / 8)
    assert height >= size[0]
    assert width >= size[1]
    assert (top, left) == (40 * scale, 60 * scale)
    ends = np.array([top + height, left + width])
    reach = 3 * np.maximum(1, [height / size[0], width / size[1]])
    assert (pixels.shape[:2] <= ends + reach + 1).all()
    assert (pixels.shape[:2] >= np.minimum(ends + reach, [200 * scale, 152 * scale])).all()


def bits(number):
    return number.to_bytes(2, 'big')


JPEG, PROGRESSIVE = jpeg(NOISE), jpeg(NOISE, progressive=True)
START, REST = JPEG[:2], JPEG[2:]
HEIGHT = JPEG.index(b'\xff\xc0') + 5


@pytest.mark.parametrize(
    ('content', 'accepted'),
    [
        (JPEG, True),
        (PROGRESSIVE, True),
        (jpeg(NOISE.convert('L')), True),
        (jpeg(NOISE, 1), True),
        (jpeg(NOISE, 9), False),
        (jpeg(NOISE, 3), False),
        (jpeg(NOISE, 6), False),
        (START + b'\xff\xfe' + bits(30_002) + b'\xff' * 30_000 + REST, True),
        (START + b'\xff\xfe' + bits(30_002) + b'a' * 30_000 + jpeg(NOISE, 6)[2:], False),
        (jpeg(NOISE.convert('CMYK')), False),
        (encoded(NOISE, 'PNG'), False),
        (b'', False),
        (b'\xff\xd8\xff\xd9', False),
        (b'\xff\xd8\xff\xc0\xff\xd9', False),
        (START + b'\xff\xfe' + bits(60_000) + b'\xff\xd9', False),
        (JPEG + b'after the end', True),
        (JPEG[:-2], False),
        (JPEG[: len(JPEG) // 2] + JPEG[-2:], False),
        (JPEG[: len(JPEG) // 8] + JPEG[-2:], False),
        (JPEG[:20] + b'\0\0' + JPEG[20:], False),
        (JPEG[:HEIGHT] + bits(0) + JPEG[HEIGHT + 2 :], False),
        (JPEG[:HEIGHT] + bits(60_000) + bits(60_000) + JPEG[HEIGHT + 4 :], False),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value),
)
def test_decode_crop_accepts_intact_upright_jpegs(content, accepted):
    asked = []

    def choose_box(*size):
        asked.append(size)
        return 0, 0, 40, 30

    assert (decode_crop(content, choose_box, (20, 20), 2) is not None) == accepted
    assert asked == [(200, 152)] or (not asked and not accepted)


def test_decode_follows_orientation_in_xmp():
    packet = (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    content = START + b'\xff\xe1' + bits(len(packet) + 2) + packet + REST
    whole = Cut(lambda height, width: (0, 0, height, width), (152, 200), FILTERS[0])
    np.testing.assert_array_equal(decode(content, 3, whole), decode(content, 3))
    assert decode(content, 3).shape == (152, 200, 3)


WHOLE = Cut(lambda height, width: (0, 0, height, width), (20, 20), FILTERS[0])
UPPER = Cut(lambda height, width: (0, 0, height / 4, width / 4), (20, 20), FILTERS[0])
cuts = pytest.mark.parametrize('cut', [WHOLE, UPPER], ids=['whole', 'upper'])
kinds = pytest.mark.parametrize(
    'kind', [{}, {'progressive': True}], ids=['baseline', 'progressive']
)


@cuts
@kinds
def test_decode_refuses_jpeg_truncated_before_its_end_marker(kind, cut):
    content = jpeg(NOISE.crop((0, 0, 48, 64)), **kind)
    decode(content, 3, cut)
    # Without the end marker, the last two bytes, all pixels are still there.
    for length in range(len(content) - 2):
        with pytest.raises(CorruptExample):
            decode(content[:length], 3, cut)


def pixels_or_none(read, content, cut):
    try:
        return read(content, 3, cut)
    except CorruptExample:
        return None


@settings(max_examples=300)
@given(
    progressive=st.booleans(),
    place=st.floats(0, 1),
    values=st.binary(min_size=1, max_size=8),
    cut=st.sampled_from([WHOLE, UPPER]),
)
def test_decode_finds_the_damage_that_pillow_finds(progressive, place, values, cut):
    content = PROGRESSIVE if progressive else JPEG
    at = 2 + round(place * (len(content) - 4 - len(values)))
    content = content[:at] + values + content[at + len(values) :]
    found, expected = (pixels_or_none(read, content, cut) for read in (decode, read_by_pillow))
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)


@cuts
@kinds
@pytest.mark.parametrize('length', [700, 3000])
def test_decode_refuses_jpeg_that_starts_again_inside(length, kind, cut):
    content = jpeg(NOISE, **kind)
    with pytest.raises(CorruptExample, match='cannot be decoded'):
        decode(content[:length] + content, 3, cut)


@pytest.mark.parametrize(
    'content',
    [
        JPEG.replace(b'JFIF\0\1', b'JFIF\0\2'),
        START + b'\xff\xee' + bits(14) + b'Adobe\0\x64\0\0\0\0\2' + JPEG[20:],
        PROGRESSIVE.replace(b'\xff\xc2', b'\xff\xc0'),
    ],
    ids=['JFIF 2', 'unknown color transform', 'progressive labelled as baseline'],
)
def test_decode_chooses_box_once_where_pillow_takes_over(content):
    boxes = []

    def choose_box(height, width):
        boxes.append((len(boxes), 0, height / 4, width / 4))
        return boxes[-1]

    found = pixels_or_none(decode, content, Cut(choose_box, (20, 20), FILTERS[0]))
    expected = pixels_or_none(read_by_pillow, content, UPPER)
    assert len(boxes) == 1
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)


def test_decode_crop_refuses_images_above_the_limit_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert decode_crop(JPEG, lambda *_: (0, 0, 9, 9), (4, 4), 1) is None
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert decode_crop(JPEG, lambda *_: (0, 0, 9, 9), (4, 4), 1) is not None
