"""Parts of photographs for training, cut out in less time than `images.decode` takes: not antialiased."""

import dataclasses
import functools
import io
import math
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from vitjax.data.images import ORIENTATION, Box, Cut, EncodedImage, decode, read, scaled
from vitjax.errors import UserError


def fast_cut(image: Any, channels: int | None, cut: Cut) -> np.ndarray:
    """As `images.decode`, but for how the part of an upright JPEG is resized.

    Its box is rounded to whole pixels. A pixel of the result is interpolated between the four nearest
    ones, as `tf.image.resize` does it; along a side that shrinks to less than half, it is the mean of
    what it covers. `cut.resample` plays no role.

    Raises:
      UserError: the extra `fast-images` is not installed; and what `images.decode` raises.
    """
    cv2, simplejpeg = libraries()
    if not isinstance(image, EncodedImage):
        return decode(image, channels, cut)
    image = EncodedImage(read(image), image.name)
    *whole, present = _upright_jpeg(image.file)
    if present not in (1, 3) or (channels == 1 and present == 3):  # whose gray is another here
        return decode(image, channels, cut)
    box = cut.choose_box(*whole)
    least = [math.ceil(n * to / of) for n, to, of in zip(whole, cut.size, box[2:], strict=True)]
    try:
        pixels = simplejpeg.decode_jpeg(
            image.file,
            {1: 'GRAY', 3: 'RGB', 4: 'RGBA'}[channels or present],
            min_height=least[0],
            min_width=least[1],
            min_factor=2,  # of the scales between none and half the decoder makes no haste
        )
    except ValueError:  # Pillow reads it nevertheless, or says what is wrong with it
        return decode(image, channels, dataclasses.replace(cut, choose_box=lambda *_: box))
    part = _inside(pixels, scaled(box, whole, pixels.shape[:2]))
    smaller = [
        to if 2 * to < there else there for to, there in zip(cut.size, part.shape, strict=False)
    ]
    if smaller != list(part.shape[:2]):
        part = cv2.resize(part, smaller[::-1], interpolation=cv2.INTER_AREA)
    resized = cv2.resize(part, cut.size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized.reshape(*cut.size, -1)


@functools.cache
def libraries() -> tuple[ModuleType, ModuleType]:
    """OpenCV and simplejpeg; UserError where the extra is not installed."""
    try:
        import cv2
        import simplejpeg
    except ImportError as error:
        why = f'config.augment.fast takes OpenCV and simplejpeg ({error})'
        raise UserError(f"{why}: pip install 'vitjax[fast-images]'") from error
    cv2.setNumThreads(1)  # images are read in parallel, not each by several threads
    return cv2, simplejpeg


def _upright_jpeg(content: bytes) -> tuple[int, int, int]:
    """Height, width and channels of a JPEG that needs no turning, zeros for anything else."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.format in ('JPEG', 'MPO') and picture.getexif().get(ORIENTATION, 1) == 1:
                return picture.height, picture.width, len(picture.getbands())
    except Exception:  # `decode` says what is wrong with it
        pass
    return 0, 0, 0


def _inside(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The part of an image in a box, rounded to whole pixels, of which there is one at least."""
    height, width = (max(1, round(side)) for side in box[2:])
    top, left = (
        min(round(at), there - side)
        for at, there, side in zip(box[:2], pixels.shape, (height, width), strict=False)
    )
    return pixels[top : top + height, left : left + width]
