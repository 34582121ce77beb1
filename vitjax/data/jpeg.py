"""The part of a JPEG in a box: the pixels that Pillow would decode, in less time."""

import dataclasses
import io
import math
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

from vitjax.data.boxes import Box, Size, least_size, scaled

ORIENTATION = 0x0112  # the EXIF tag; values 5 to 8 swap height and width
# Of blocks of 8 x 8 values, at most two of which lie above each other where colours are halved.
_ROWS = 16
_REACH = 3  # Lanczos, the widest of Pillow's filters, weighs three pixels to each side
_LEFT_OUT = 'extraneous bytes before marker'  # what libjpeg says of rows beyond the height
# Markers, ITU-T T.81, table B.1.
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_SCAN, _EXIF_OR_XMP = 0xDA, 0xE1
_TABLES_AND_NOTES = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}


def decode_part(
    content: bytes, choose_box: Callable[[int, int], Box], size: Size, gap: float
) -> tuple[np.ndarray, Box] | None:
    """Decodes no more of a JPEG than resizing a box of it asks for.

    Rows below the box are left out, and where the box has `gap` times the `size` at half, a quarter
    or an eighth of the scale, all is decoded at that (as Pillow's `Image.draft` does).

    Args:
      content: of the file.
      choose_box: (height, width) of the image -> the box.
      size: (height, width) that the box is to be resized to.

    Returns:
      uint8 [h, w, 1 or 3], the image down to where Pillow's filters reach below the box and to its
      right; the box in it. None for what Pillow has to read: other files, cut off and damaged ones,
      ones to be turned, CMYK, and rare kinds of JPEG.
    """
    frame = _upright_frame(content)
    if frame is None:
        return None
    whole = frame.height, frame.width
    box = choose_box(*whole)
    least = least_size(whole, box, size, gap)
    fits = min(has // wants for has, wants in zip(whole, least, strict=True))
    scale = next(scale for scale in (8, 4, 2, 1) if scale == 1 or fits >= scale)
    to = -(-frame.height // scale), -(-frame.width // scale)
    box = scaled(box, whole, to)
    down, across = map(_reached, box, box[2:], size, to)
    rows = frame.height
    if frame.row_by_row:
        # Colours of the last rows are interpolated with those below.
        rows = min(rows, -(-down * scale // _ROWS) * _ROWS + _ROWS)
    pixels = _decode(content, frame, rows, scale)
    return None if pixels is None else (pixels[:down, :across], box)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Of the header: sizes, the place of the height, and whether rows can be decoded one by one."""

    height: int
    width: int
    channels: int
    height_at: int
    row_by_row: bool


def _upright_frame(content: bytes) -> _Frame | None:
    """None for what simplejpeg does not read, or not as Pillow does."""
    # A file that was cut off could not be told from one whose last rows are left out.
    if not (content.startswith(b'\xff\xd8\xff') and content.endswith(b'\xff\xd9')):
        return None
    at, frame_at, sequential, exif = 2, None, False, False
    while content[at] == 0xFF and (marker := content[at + 1]) != _SCAN:
        if marker in (*_SEQUENTIAL, _PROGRESSIVE) and frame_at is None:
            frame_at, sequential = at + 4, marker in _SEQUENTIAL
        elif marker not in _TABLES_AND_NOTES:
            return None
        exif |= marker == _EXIF_OR_XMP
        at += 2 + int.from_bytes(content[at + 2 : at + 4], 'big')
        if at >= len(content):
            return None
    if frame_at is None or content[at] != 0xFF:
        return None
    header = content[frame_at : frame_at + 15]
    if len(header) < 15:
        return None
    precision, channels = header[0], header[5]
    height, width = int.from_bytes(header[1:3], 'big'), int.from_bytes(header[3:5], 'big')
    # TurboJPEG knows 4:4:4, 4:2:2, 4:4:0, 4:2:0 and gray.
    usual = channels == 1 or (
        channels == 3 and header[7] in (0x11, 0x21, 0x12, 0x22) and header[10] == header[13] == 0x11
    )
    # Pillow warns of larger images, or refuses them.
    most = Image.MAX_IMAGE_PIXELS or math.inf
    if precision != 8 or not usual or not 0 < height * width <= most:
        return None
    if exif and not _is_upright(content):
        return None
    interleaved = content[at + 4 : at + 5] == bytes([channels])
    return _Frame(height, width, channels, frame_at + 1, sequential and interleaved)


def _is_upright(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.getexif().get(ORIENTATION, 1) == 1
    except Exception:  # `images.decode` says what is wrong with it
        return False


def _reached(start: float, length: float, size: int, side: int) -> int:
    """How many pixels of a side there are up to the last one weighed where a part becomes `size`."""
    return min(side, math.ceil(start + length + _REACH * max(1.0, length / size)))


def _decode(content: bytes, frame: _Frame, rows: int, scale: int) -> np.ndarray | None:
    """The first rows at a scale, or None; the header's height is lowered to leave out the others."""
    size = -(-rows // scale), -(-frame.width // scale)
    pixels = np.empty((*size, frame.channels), np.uint8)
    at = frame.height_at
    try:
        simplejpeg.decode_jpeg(
            b''.join((content[:at], rows.to_bytes(2, 'big'), content[at + 2 :])),
            'GRAY' if frame.channels == 1 else 'RGB',
            min_height=size[0],
            min_width=size[1],
            buffer=pixels,
        )
    except ValueError as error:
        # Of complaints it tells the last one: this comes when all rows are there.
        if rows == frame.height or _LEFT_OUT not in str(error):
            return None
    return pixels
