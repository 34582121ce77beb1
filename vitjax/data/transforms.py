"""Augmenting images, and the two transforms from an example to what a batch holds."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from vitjax.config import Augment
from vitjax.data import fast
from vitjax.data.boxes import random_box
from vitjax.data.images import Cut, decode, to_array, to_picture
from vitjax.data.preprocess import Preprocess
from vitjax.data.randaugment import rand_augment
from vitjax.errors import UserError


def flip(image: np.ndarray) -> np.ndarray:
    """Left to right."""
    pixels = image.view(f'V{image.shape[-1]}')  # [H, W, 1]; of single bytes copying takes longer
    return np.ascontiguousarray(pixels[:, ::-1]).view(image.dtype)


def shift(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Moved by whole pixels, zeros moving in."""
    height, width = image.shape[:2]
    shifted = np.zeros_like(image)
    shifted[max(down, 0) : height + down, max(right, 0) : width + right] = image[
        max(-down, 0) : height - down, max(-right, 0) : width - right
    ]
    return shifted


def warp(
    image: np.ndarray,
    degrees: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Turned counter-clockwise and scaled about the centre, then moved; bilinear, zeros moving in.

    Args:
      scale: of (height, width); above 1 is larger.
      shift: (down, right) in pixels.
    """
    middle = np.array(image.shape[:2]) / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Pillow asks where in the image each pixel of the result comes from.
    inverse = np.array([[cosine, sine], [-sine, cosine]]) / scale
    origin = middle - inverse @ (middle + shift)
    (yy, yx), (xy, xx) = inverse
    matrix = xx, xy, origin[1], yx, yy, origin[0]
    picture = to_picture(image)
    method, resample = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return to_array(picture.transform(picture.size, method, matrix, resample))


class TrainImages:
    """Transform: an example with a random crop, warp or shift, flip, and RandAugment, in this order.

    Args:
      preprocess: size and channels of the result, and how it is resized.
      augment: the keys of `config.Augment`; those left out have its defaults.
      num_classes: labels are from 0 to below it, or an example is refused; None for any.

    Raises:
      UserError: bounds out of order, a shift by the whole image, RandAugment of images with
        transparency, or `fast` without the extra that it takes.
    """

    def __init__(
        self, preprocess: Preprocess, augment: Mapping[str, Any], num_classes: int | None = None
    ):
        self.preprocess, self.augment = preprocess, Augment(**augment)
        self.num_classes = num_classes
        for key in ('crop', 'aspect'):
            bounds = getattr(self.augment, key)
            if bounds is not None and not (0 < bounds[0] <= bounds[1]):
                raise UserError(
                    f'config.augment.{key}: {bounds} is not (least, greatest), both above 0'
                )
        if self.augment.shift >= min(preprocess.image_size):
            raise UserError(
                f'config.augment.shift: {self.augment.shift} pixels move images of '
                f'{preprocess.image_size} out of sight'
            )
        if self.augment.randaugment and preprocess.channels not in (1, 3):
            raise UserError(
                f'config.augment.randaugment is for images of 1 or 3 channels, not {preprocess.channels}'
            )
        if self.augment.fast:
            fast.library()

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """-> `{'image': uint8 [H, W, C], 'label': int32}`, random as `rng` says."""
        if self.augment.crop is None:
            choose_box = self.preprocess.cut().choose_box
        else:
            area, aspect = self.augment.crop, self.augment.aspect
            choose_box = functools.partial(random_box, rng=rng, area=area, aspect=aspect)
        size, resample = self.preprocess.image_size, self.preprocess.resample
        cut = Cut(choose_box, size, resample, self.augment.fast)
        image = decode(_value(example, 'image'), self.preprocess.channels, cut)
        most = self.augment.shift
        if self.augment.rotate or self.augment.scale:
            degrees = rng.uniform(-1, 1) * self.augment.rotate
            scale = (1 + self.augment.scale) ** rng.uniform(-1, 1, 2)
            image = warp(image, degrees, scale, rng.uniform(-most, most, 2))
        elif most:
            image = shift(image, *rng.integers(-most, most + 1, 2))
        if self.augment.flip and rng.random() < 0.5:
            image = flip(image)
        if self.augment.randaugment is not None:
            image = rand_augment(image, rng, *self.augment.randaugment)
        return {'image': image, 'label': _label(example, self.num_classes)}


class EvalImages:
    """Transform: an example with its image preprocessed, but for normalising; nothing is random."""

    def __init__(self, preprocess: Preprocess, num_classes: int | None = None):
        self.preprocess, self.num_classes = preprocess, num_classes

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """-> `{'image': uint8 [H, W, C], 'label': int32}`."""
        del rng
        image = self.preprocess.pixels(_value(example, 'image'))
        return {'image': image, 'label': _label(example, self.num_classes)}


def _label(example, num_classes):
    label = np.int32(_value(example, 'label'))
    # Not all data sets say how many classes there are; of splits kept secret, TFDS has labels of -1.
    if num_classes and not 0 <= label < num_classes:
        raise UserError(f'its label is {label}, but there are {num_classes} classes')
    return label


def _value(example, key):
    if key not in example:
        raise UserError(f'it has no {key!r}, but {", ".join(map(repr, example))}')
    return example[key]
