"""Parts of photographs for training, cut out in half the time that `images.decode` takes, less exactly."""

import functools
import io
import math
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from vitjax.data.images import ORIENTATION, Box, Cut, EncodedImage, decode, read
from vitjax.errors import UserError


def fast_cut(image: Any, channels: int | None, cut: Cut) -> np.ndarray:
    """As `images.decode`, but for how exactly JPEGs are decoded and how the part is resized.

    Of a JPEG the cosine transform is a fast one, and colours that are stored at half the size are
    repeated, not interpolated: pixels differ by one or two of 255 on average. The box is rounded to
    whole pixels. A pixel of the result is interpolated between the four nearest ones, as
    `tf.image.resize` does it; where the part shrinks to less than half, it is the mean of what it
    covers. `cut.resample` plays no role.

    Raises:
      UserError: the extra `fast-images` is not installed; and what `images.decode` raises.
    """
    cv2, simplejpeg = libraries()
    part = None
    if isinstance(image, EncodedImage):
        image = EncodedImage(read(image), image.name)
        part = _part_of_jpeg(simplejpeg, image.file, channels, cut)
    if part is None:
        pixels = decode(image, channels)
        part = _inside(pixels, cut.choose_box(*pixels.shape[:2]))
    shrinks = any(2 * wanted < there for wanted, there in zip(cut.size, part.shape, strict=False))
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(part, cut.size[::-1], interpolation=method).reshape(*cut.size, -1)


@functools.cache
def libraries() -> tuple[ModuleType, ModuleType]:
    """OpenCV and simplejpeg; UserError where the extra is not installed."""
    try:
        import cv2
        import simplejpeg
    except ImportError as error:
        message = f"config.augment.fast takes {error.name}: pip install 'vitjax[fast-images]'"
        raise UserError(message) from error
    cv2.setNumThreads(1)  # images are read in parallel, not each by several threads
    return cv2, simplejpeg


def _part_of_jpeg(
    simplejpeg: ModuleType, content: bytes, channels: int | None, cut: Cut
) -> np.ndarray | None:
    """The box of an upright JPEG, at least as large as the result; None where `decode` has to do it."""
    try:
        *whole, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ('Gray', 'YCbCr') or not _is_upright(content):
            return None
        box = cut.choose_box(*whole)
        least = [math.ceil(n * to / of) for n, to, of in zip(whole, cut.size, box[2:], strict=True)]
        pixels = simplejpeg.decode_jpeg(
            content,
            {1: 'GRAY', 3: 'RGB', 4: 'RGBA'}[channels or (1 if colours == 'Gray' else 3)],
            fastdct=True,
            fastupsample=True,
            min_height=least[0],
            min_width=least[1],
            min_factor=2,  # of the scales between none and half the decoder makes no haste
        )
    except (OSError, ValueError):  # `decode` reads it nevertheless, or says what is wrong with it
        return None
    down, across = (there / n for there, n in zip(pixels.shape, whole, strict=False))
    return _inside(pixels, (box[0] * down, box[1] * across, box[2] * down, box[3] * across))


def _is_upright(jpeg: bytes) -> bool:
    if jpeg.find(b'Exif\0\0', 0, 2**14) < 0:  # it has to come first
        return True
    with Image.open(io.BytesIO(jpeg)) as picture:
        return picture.getexif().get(ORIENTATION, 1) == 1


def _inside(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The part of an image in a box, rounded to whole pixels, of which there is one at least."""
    top, left, height, width = box
    bottom, right = max(1, round(top + height)), max(1, round(left + width))
    return pixels[min(round(top), bottom - 1) : bottom, min(round(left), right - 1) : right]
