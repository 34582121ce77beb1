"""JPEG files decoded by simplejpeg: to the same pixels as by Pillow, in less time."""

import io
import math
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

from vitjax.data.boxes import Box, Size, least_size, scaled

ORIENTATION = 0x0112  # the Exif tag; values 5 to 8 swap height and width
_LANCZOS_RADIUS = (
    3  # Pillow's widest filter uses this many pixels on each side, times the reduction
)
_DECODED_AS = {'Gray': 'GRAY', 'YCbCr': 'RGB', 'RGB': 'RGB'}  # not CMYK and YCCK
# Only files that contain one of these can have an orientation, in Exif or in XMP.
_ORIENTATION_MARKS = (b'Exif', b'tiff:Orientation')


def decode_crop(
    content: bytes, choose_box: Callable[[int, int], Box], size: Size, gap: float
) -> tuple[np.ndarray, Box] | None:
    """Decodes a JPEG at the smallest scale that suffices to resize a box of it.

    The scale is 1/2, 1/4 or 1/8 where the box then still has `gap` times the `size`, as in Pillow's
    `Image.draft`.

    Args:
      content: bytes of the file.
      choose_box: (height, width) of the image -> the box.
      size: (height, width) that the box will be resized to.
      gap: least ratio between the decoded box and `size`.

    Returns:
      The image, uint8 [h, w, 1 or 3], without what no filter of Pillow uses below and to the right of
      the box; the box in its pixels. None for files that Pillow has to read: other formats, truncated and
      damaged files, rotated ones, CMYK, and images that are too large for Pillow's limit.
    """
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    # Pillow warns about larger images, or refuses them.
    if colorspace not in _DECODED_AS or height * width > (Image.MAX_IMAGE_PIXELS or math.inf):
        return None
    if not _is_upright(content):
        return None
    box = choose_box(height, width)
    needed = least_size((height, width), box, size, gap)
    ratio = min(height // needed[0], width // needed[1])
    scale = next(scale for scale in (8, 4, 2, 1) if scale == 1 or ratio >= scale)
    decoded_size = -(-height // scale), -(-width // scale)
    try:
        # The default, strict=True, also refuses what libjpeg only warns about, such as missing data.
        pixels = simplejpeg.decode_jpeg(
            content, _DECODED_AS[colorspace], min_height=decoded_size[0], min_width=decoded_size[1]
        )
    except ValueError:
        return None
    box = scaled(box, (height, width), decoded_size)
    bottom, right = map(_last_used, box[:2], box[2:], size, decoded_size)
    return pixels[:bottom, :right], box


def _is_upright(content: bytes) -> bool:
    if not any(mark in content for mark in _ORIENTATION_MARKS):
        return True
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.getexif().get(ORIENTATION, 1) == 1
    except Exception:  # `images.decode` reports the error
        return False


def _last_used(start: float, length: float, size: int, side: int) -> int:
    """End of the pixels, along a side, that resizing a part to `size` can use."""
    return min(side, math.ceil(start + length + _LANCZOS_RADIUS * max(1.0, length / size)))
