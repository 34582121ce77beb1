"""RandAugment: operations drawn from fourteen, all with the same magnitude (Cubuk et al. 2020)."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from vitjax.data.images import to_array, to_picture

_GRAY = 128  # fills the border that a shift, shear or rotation uncovers
_MAX_SHIFT = 150 / 331  # share of a side, as in AutoAugment


def rand_augment(
    image: np.ndarray, rng: np.random.Generator, operations: int, magnitude: float
) -> np.ndarray:
    """Applies operations drawn from `OPERATIONS` one after another.

    Args:
      image: uint8 [H, W, 1 or 3].
      operations: number of operations, N in the paper.
      magnitude: M in the paper divided by its maximum, in [0, 1]; `magnitude` / 30 in torchvision. The sign
        of operations with two directions is random.

    Returns:
      uint8 of the same shape.
    """
    picture = to_picture(image)
    for name in rng.choice(list(OPERATIONS), operations):
        picture = OPERATIONS[name](picture, magnitude * rng.choice((-1, 1)))
    return to_array(picture)


def _enhance(kind: type) -> Callable[[Image.Image, float], Image.Image]:
    return lambda picture, magnitude: kind(picture).enhance(1 + 0.9 * magnitude)


def _solarize(picture: Image.Image, magnitude: float) -> Image.Image:
    return ImageOps.solarize(picture, round(256 * (1 - abs(magnitude))))


def _posterize(picture: Image.Image, magnitude: float) -> Image.Image:
    return ImageOps.posterize(picture, 8 - round(4 * abs(magnitude)))


def _rotate(picture: Image.Image, magnitude: float) -> Image.Image:
    return picture.rotate(30 * magnitude, fillcolor=_fill(picture))


def _shear_x(picture: Image.Image, magnitude: float) -> Image.Image:
    shear = 0.3 * magnitude
    return _affine(picture, (1, shear, -shear * picture.height / 2, 0, 1, 0))


def _shear_y(picture: Image.Image, magnitude: float) -> Image.Image:
    shear = 0.3 * magnitude
    return _affine(picture, (1, 0, 0, shear, 1, -shear * picture.width / 2))


def _translate_x(picture: Image.Image, magnitude: float) -> Image.Image:
    return _affine(picture, (1, 0, magnitude * _MAX_SHIFT * picture.width, 0, 1, 0))


def _translate_y(picture: Image.Image, magnitude: float) -> Image.Image:
    return _affine(picture, (1, 0, 0, 0, 1, magnitude * _MAX_SHIFT * picture.height))


def _affine(picture: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Affine transform; `matrix` maps pixels of the result to pixels of the picture.

    The nearest pixel is taken, as in the papers' code; interpolation takes several times as long.
    """
    method = Image.Transform.AFFINE
    return picture.transform(picture.size, method, matrix, fillcolor=_fill(picture))


def _fill(picture: Image.Image) -> int | tuple[int, ...]:
    return _GRAY if picture.mode == 'L' else (_GRAY,) * 3


# The operations of Cubuk et al. 2020, figure 2, with the ranges of Cubuk et al. 2019, "AutoAugment",
# table 6. Unlike there, all operations with a magnitude change nothing at magnitude 0.
OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    'identity': lambda picture, _: picture,
    'autocontrast': lambda picture, _: ImageOps.autocontrast(picture),
    'equalize': lambda picture, _: ImageOps.equalize(picture),
    'rotate': _rotate,
    'solarize': _solarize,
    'posterize': _posterize,
    'color': _enhance(ImageEnhance.Color),
    'contrast': _enhance(ImageEnhance.Contrast),
    'brightness': _enhance(ImageEnhance.Brightness),
    'sharpness': _enhance(ImageEnhance.Sharpness),
    'shear_x': _shear_x,
    'shear_y': _shear_y,
    'translate_x': _translate_x,
    'translate_y': _translate_y,
}
