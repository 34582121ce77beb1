"""A picture for the tests, in several forms."""

import io

import numpy as np
from PIL import Image

# Smooth, so that lossy files and other scales stay near it; no symmetry.
ROWS, COLUMNS = np.mgrid[0:48, 0:64]
PHOTO = np.stack([ROWS * 5, COLUMNS * 3, ROWS + COLUMNS], axis=-1).astype(np.uint8)
GRAY = PHOTO[..., 0]


def encoded(picture, form, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def jpeg(picture, orientation=None, **options):
    if orientation is not None:
        options['exif'] = exif = Image.Exif()
        exif[0x0112] = orientation
    return encoded(picture, 'JPEG', quality=95, **options)


def rgba():
    return Image.fromarray(np.dstack([PHOTO, 255 - GRAY]))
