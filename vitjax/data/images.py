"""Images as numpy arrays: decoding files, cropping and resizing.

Images from files are uint8 [H, W, C], where C is 1 (gray), 3 (RGB) or 4 (RGBA). Images given as arrays may
also be uint16 or float32 and have any number of channels; both are kept.
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
# JPEGs are decoded at a reduced scale only down to twice the target size, so that the result is nearly that
# of resizing the full image (Pillow: Image.thumbnail, `reducing_gap`).
_REDUCING_GAP = 2.0


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image file that is not decoded yet, so that it can be decoded at the scale that a crop needs.

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
    """Crop and resize: a box of an image, and the size of the result.

    Attributes:
      choose_box: (height, width) of the image -> the box.
      size: (height, width) of the result.
      resample: the interpolation.
      fast: upright JPEGs are resized by `fast.resize` instead.
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
    """A central crop with the aspect ratio of `size`, its sides scaled by `crop`, resized to `size`.

    With `squash` the crop has the image's own aspect ratio; it is the whole image if `crop` is 1.
    An image of the target size is returned unchanged if `crop` is 1.
    """

    def choose_box(height: int, width: int) -> Box:
        return central_box(height, width, (height, width) if squash else size, crop)

    return Cut(choose_box, (size[0], size[1]), resample)


def decode(image: Any, channels: int | None = None, cut: Cut | None = None) -> np.ndarray:
    """Reads an image: rotated upright by its Exif orientation, 16-bit files scaled to 8 bits.

    Args:
      image: path, bytes of a file, `EncodedImage`, PIL image, or an array [H, W] or [H, W, C], uint8, uint16
        or float.
      channels: of the result; None keeps those of the image. 8-bit images of 1, 3 and 4 channels are
        converted into each other; one channel of any dtype is repeated.
      cut: crop and size of the result; None for the whole image.

    Returns:
      [H, W, C], uint8; for an array its own dtype, but float32 for all floats.

    Raises:
      CorruptExample: not an image, truncated or damaged, or no such file.
      UserError: an array that is not an image.
      RunError: the bucket of the file does not answer.
    """
    if isinstance(image, Image.Image):
        return _from_picture(image.copy(), channels, cut)  # decoding may reduce it in place
    if hasattr(image, 'shape'):
        return _from_array(np.asarray(image), channels, cut)
    if not isinstance(image, EncodedImage):
        image = EncodedImage(image, 'image' if isinstance(image, bytes) else str(image))
    content = _read(image)
    try:
        if cut is not None:
            # The box may be random: it is chosen once, also where Pillow takes over from simplejpeg.
            cut = dataclasses.replace(cut, choose_box=functools.cache(cut.choose_box))
            if (cropped := _cropped_jpeg(content, channels, cut)) is not None:
                return cropped
        with Image.open(io.BytesIO(content)) as picture:
            return _from_picture(picture, channels, cut)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise CorruptExample(f'{image.name}: not an image of a known format') from error
    except Exception as error:  # decoders raise errors of many types for damaged files
        raise CorruptExample(f'{image.name}: cannot be decoded: {error}') from error


def _read(image: EncodedImage) -> bytes:
    """The content of an image file; raises the errors of `decode`."""
    if isinstance(image.file, bytes):
        return image.file
    path = to_path(image.file)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptExample(f'no file {image.name}') from error
    except OSError as error:
        # A network failure does not mean that the file is corrupt.
        kind = CorruptExample if is_local(path) else RunError
        raise kind(f'{image.name}: cannot be read: {error.strerror or error}') from error


def _cropped_jpeg(content, channels, cut):
    """None for files that `_from_picture` has to read."""
    gap = 1.0 if cut.fast else _REDUCING_GAP
    decoded = jpeg.decode_crop(content, cut.choose_box, cut.size, gap)
    if decoded is None:
        return None
    pixels, box = decoded
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
            f'an image with {present} channels of {image.dtype} cannot be converted to {channels} channels'
        )
    return to_array(to_picture(image).convert(_MODES[channels]))


def _is_pixels(dtype: np.dtype) -> bool:
    return dtype in (np.uint8, np.uint16) or dtype.kind == 'f'


def _resized_channels(image, box, cut):
    """Resizes an array of any dtype and number of channels, each channel as a float image."""
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
    # Rounding may have moved the far corner out of the image, which Pillow refuses.
    corners = left, top, min(left + width, picture.width), min(top + height, picture.height)
    return picture.resize(cut.size[::-1], cut.resample, box=corners)


def _with_channels(picture, channels):
    if picture.mode.startswith(('I', 'F')):
        picture = _to_8_bits(picture)
    if 'transparency' in picture.info or picture.mode in ('LA', 'La', 'PA', 'RGBa'):
        # Via RGBA, because Pillow warns about direct conversions to other modes.
        picture = picture.convert('RGBA')
    if channels is None:
        channels = {'1': 1, 'L': 1, 'RGBA': 4}.get(picture.mode, 3)
    if picture.mode == 'P':
        picture = picture.convert('RGB')
    mode = _MODES[channels]
    # `convert` copies even if the mode is the same.
    return picture if picture.mode == mode else picture.convert(mode)


def _to_8_bits(picture):
    values = np.asarray(picture)
    # Pillow reads some 16-bit files as 32-bit integers. Floats and larger values have no known range.
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
