"""Images as numpy arrays: decoding files, and cutting the wanted part out at the wanted size.

Images of files are uint8 [H, W, C], C is 1 (gray), 3 (RGB) or 4 (RGBA). Arrays may also be uint16 or float32,
with any number of channels, and stay so.
"""

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vitjax.data import fast, jpeg
from vitjax.data.boxes import Box, central_box, least_size, scaled
from vitjax.errors import CorruptExample, RunError, UserError
from vitjax.files import is_local, to_path

_MODES = {1: 'L', 3: 'RGB', 4: 'RGBA'}
# JPEG is decoded at a smaller scale only down to twice the size that is wanted, which leaves the
# result nearly as a resize of the whole would make it (Pillow: Image.thumbnail, `reducing_gap`).
_REDUCING_GAP = 2.0


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image file not yet decoded, so that only as much is decoded as a crop needs.

    Attributes:
      file: path, or the content as bytes.
      name: for errors.
    """

    file: str | Path | bytes = dataclasses.field(repr=False)
    name: str

    def __array__(self, dtype=None, copy=None):
        return np.asarray(decode(self), dtype)


@dataclasses.dataclass(frozen=True)
class Cut:
    """Which box of an image is wanted, and at what size.

    Attributes:
      choose_box: (height, width) of the image -> the box.
      size: (height, width) of the result.
      resample: how pixels are interpolated.
      fast: JPEGs that stand upright are resized by `fast.resize` instead.
    """

    choose_box: Callable[[int, int], Box]
    size: tuple[int, int]
    resample: Image.Resampling
    fast: bool = False


def central_cut(
    size: tuple[int, int],
    crop: float = 1.0,
    squash: bool = False,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Cut:
    """The central part: `crop` of what fits in the proportions of `size`, at that size.

    With `squash` it is of the image's own proportions: the whole image if `crop` is 1.
    An image that has the size already stays as it is when `crop` is 1.
    """

    def choose_box(height: int, width: int) -> Box:
        return central_box(height, width, (height, width) if squash else size, crop)

    return Cut(choose_box, tuple(size), resample)


def decode(image: Any, channels: int | None = None, cut: Cut | None = None) -> np.ndarray:
    """Reads an image: upright as its EXIF data say, 16-bit values scaled to 8 bits.

    Args:
      image: path, bytes of a file, `EncodedImage`, PIL image, or an array [H, W] or [H, W, C], uint8, uint16
        or float.
      channels: those of the result; None keeps them as they are. Of 1, 3 and 4 channels of 8 bits each can
        be made of each other, and of one channel several equal ones.
      cut: what part is wanted, and its size; None for the whole image.

    Returns:
      [H, W, C], uint8; of an array its dtype, float32 for other floats.

    Raises:
      CorruptExample: not an image, a damaged one, or no such file.
      UserError: an array that is not an image.
      RunError: the bucket that has the file does not answer.
    """
    if isinstance(image, Image.Image):
        return _from_picture(image.copy(), channels, cut)  # it may be shrunk as it is decoded
    if hasattr(image, 'shape'):
        return _from_array(np.asarray(image), channels, cut)
    if not isinstance(image, EncodedImage):
        image = EncodedImage(image, 'image' if isinstance(image, bytes) else str(image))
    content = _read(image)
    try:
        if cut is not None:
            # Whoever decodes it, and if one leaves it to another: the box is chosen once.
            cut = dataclasses.replace(cut, choose_box=functools.cache(cut.choose_box))
            if (found := _part_of_jpeg(content, channels, cut)) is not None:
                return found
        with Image.open(io.BytesIO(content)) as picture:
            return _from_picture(picture, channels, cut)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise CorruptExample(f'{image.name}: not an image of a known format') from error
    # Damaged files make the decoders raise nearly anything.
    except Exception as error:
        raise CorruptExample(f'{image.name}: cannot be decoded: {error}') from error


def _read(image: EncodedImage) -> bytes:
    """The content of an image file; errors are those of `decode`."""
    if isinstance(image.file, bytes):
        return image.file
    path = to_path(image.file)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptExample(f'no file {image.name}') from error
    except OSError as error:
        # A network that fails damages no file.
        kind = CorruptExample if is_local(path) else RunError
        raise kind(f'{image.name}: cannot be read: {error.strerror or error}') from error


def _part_of_jpeg(content, channels, cut):
    """None for what `_from_picture` has to read."""
    gap = 1.0 if cut.fast else _REDUCING_GAP
    part = jpeg.decode_crop(content, cut.choose_box, cut.size, gap)
    if part is None:
        return None
    pixels, box = part
    if cut.fast:
        return _from_array(fast.resize(pixels, box, cut.size), channels, None)
    return to_array(_resized(_with_channels(to_picture(pixels), channels), box, cut))


def _from_picture(picture, channels, cut):
    orientation = picture.getexif().get(jpeg.ORIENTATION, 1)
    swapped = orientation in (5, 6, 7, 8)
    height, width = picture.size if swapped else picture.size[::-1]
    if cut is not None:
        box = cut.choose_box(height, width)
        wanted = least_size((height, width), box, cut.size, _REDUCING_GAP)
        picture.draft(None, wanted if swapped else wanted[::-1])
    if orientation != 1:
        picture = ImageOps.exif_transpose(picture)
    picture = _with_channels(picture, channels)
    if cut is not None:
        box = scaled(box, (height, width), (picture.height, picture.width))
        picture = _resized(picture, box, cut)
    return to_array(picture)


def _from_array(image, channels, cut):
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or 0 in image.shape or not _is_pixels(image.dtype):
        raise UserError(
            f'an image is [height, width, channels], uint8, uint16 or float, got {image.dtype} '
            f'{list(image.shape)}'
        )
    if image.dtype.kind == 'f':
        image = image.astype(np.float32, copy=False)
    height, width, present = image.shape
    is_picture = image.dtype == np.uint8 and present in _MODES
    if cut is not None:
        box = cut.choose_box(height, width)
        if cut.size != (height, width) or box != (0, 0, height, width):
            if is_picture:
                image = to_array(_resized(to_picture(image), box, cut))
            else:
                image = _resized_channels(image, box, cut)
    if channels in (None, present):
        return image
    if present == 1 and not (is_picture and channels == 4):
        return np.repeat(image, channels, axis=-1)
    if not is_picture or channels not in _MODES:
        raise UserError(
            f'an image has {present} channels of {image.dtype}, of which no {channels} can be made'
        )
    return to_array(to_picture(image).convert(_MODES[channels]))


def _is_pixels(dtype: np.dtype) -> bool:
    return dtype in (np.uint8, np.uint16) or dtype.kind == 'f'


def _resized_channels(image, box, cut):
    """Any dtype and number of channels, each channel as a picture of floats."""
    channels = [
        np.asarray(_resized(Image.fromarray(channel), box, cut))
        for channel in np.moveaxis(image.astype(np.float32), -1, 0)
    ]
    resized = np.stack(channels, axis=-1)
    if image.dtype.kind == 'f':
        return resized
    return resized.round().clip(0, np.iinfo(image.dtype).max).astype(image.dtype)


def _resized(picture, box, cut):
    top, left, height, width = box
    # Rounding may have moved the far corner out of the picture, which Pillow does not allow.
    corners = left, top, min(left + width, picture.width), min(top + height, picture.height)
    return picture.resize(cut.size[::-1], cut.resample, box=corners)


def _with_channels(picture, channels):
    if picture.mode.startswith(('I', 'F')):
        picture = _to_8_bits(picture)
    if 'transparency' in picture.info or picture.mode in ('LA', 'La', 'PA', 'RGBa'):
        # The way to any other mode leads through RGBA: Pillow warns about the direct one.
        picture = picture.convert('RGBA')
    if channels is None:
        channels = {'1': 1, 'L': 1, 'RGBA': 4}.get(picture.mode, 3)
    if picture.mode == 'P':
        picture = picture.convert('RGB')
    mode = _MODES[channels]
    return picture if picture.mode == mode else picture.convert(mode)  # which would copy it


def _to_8_bits(picture):
    values = np.asarray(picture)
    # Pillow keeps some 16-bit files in 32-bit integers; floats and larger values have no scale.
    if values.dtype.kind == 'f' or values.min() < 0 or values.max() > 65535:
        raise ValueError('its pixels are neither 8-bit nor 16-bit integers')
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def to_picture(image: np.ndarray) -> Image.Image:
    """uint8 [H, W, C] as a PIL image."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def to_array(picture: Image.Image) -> np.ndarray:
    """A PIL image as uint8 [H, W, C]."""
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array
