"""Image augmentation, and transforms from an example to the arrays of a batch."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from PIL import Image

from vitjax import registry
from vitjax.config import Count, Fraction, NotNegative, Range
from vitjax.data import fast
from vitjax.data.boxes import random_box
from vitjax.data.images import Cut, decode, to_array, to_picture
from vitjax.data.preprocess import Preprocess
from vitjax.data.randaugment import rand_augment
from vitjax.errors import UserError

# (example, random generator) -> changed example
Augment = Callable[[Mapping[str, Any], np.random.Generator], Mapping[str, Any]]


def flip(image: np.ndarray) -> np.ndarray:
    """Mirrors an image [H, W, C] left to right."""
    # As [H, W, 1] with one item per pixel, because copying single bytes is slower.
    pixels = np.ascontiguousarray(image).view(f'V{image.shape[-1] * image.itemsize}')
    return np.ascontiguousarray(pixels[:, ::-1]).view(image.dtype)


def shift(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shifts an image by whole pixels; the border is filled with zeros."""
    height, width = image.shape[:2]
    shifted = np.zeros_like(image)
    shifted[max(down, 0) : height + down, max(right, 0) : width + right] = image[
        max(-down, 0) : height - down, max(-right, 0) : width - right
    ]
    return shifted


def warp(
    image: np.ndarray,
    degrees: float = 0.0,
    scale: Sequence[float] | np.ndarray = (1.0, 1.0),
    shift: Sequence[float] | np.ndarray = (0.0, 0.0),
) -> np.ndarray:
    """Rotates and scales an image about its centre, then shifts it; bilinear, the border is zeros.

    Args:
      degrees: counter-clockwise.
      scale: factors of (height, width); above 1 enlarges.
      shift: (down, right) in pixels.
    """
    centre = np.array(image.shape[:2]) / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Pillow takes the inverse: from pixels of the result to pixels of the image.
    inverse = np.array([[cosine, sine], [-sine, cosine]]) / scale
    origin = centre - inverse @ (centre + np.array(shift))
    (yy, yx), (xy, xx) = inverse
    matrix = xx, xy, origin[1], yx, yy, origin[0]
    picture = to_picture(image)
    method, resample = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return to_array(picture.transform(picture.size, method, matrix, resample))


@dataclasses.dataclass(frozen=True)
class StandardAugment:
    """Random crop, warp or shift, flip and RandAugment of the image of an example, in this order.

    Attributes:
      preprocess: size, channels and interpolation of the result; given by the run.
      crop: least and greatest share of the area in a random resized crop; None for no crop.
      aspect: least and greatest width / height of the crop.
      fast: resizes JPEGs without antialiasing, in two thirds of the time; see docs/performance.md.
      flip: mirrors half of the images left to right.
      shift: maximum in pixels in each direction; whole pixels unless `rotate` or `scale` is set.
      rotate: maximum in degrees in either direction.
      scale: maximum relative change of height and of width, each drawn on its own.
      randaugment: (operations per image, magnitude from 0 to 1), see `vitjax.data.randaugment`.

    Raises:
      UserError: bounds out of order, a shift as large as the image, RandAugment for images with other than 1
        or 3 channels, or `fast` without the extra `fast-images`.
    """

    preprocess: Preprocess
    crop: tuple[float, float] | None = None
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    fast: bool = False
    flip: bool = False
    shift: Annotated[int, Range(low=0)] = 0
    rotate: NotNegative = 0.0
    scale: NotNegative = 0.0
    randaugment: tuple[Count, Fraction] | None = None

    def __post_init__(self):
        for key in ('crop', 'aspect'):
            bounds = getattr(self, key)
            if bounds is not None and not (0 < bounds[0] <= bounds[1]):
                raise UserError(
                    f'config.augment.{key}: {bounds} is not (least, greatest), both above 0'
                )
        if self.shift >= min(self.preprocess.image_size):
            raise UserError(
                f'config.augment.shift: {self.shift} pixels move images of '
                f'{self.preprocess.image_size} out of sight'
            )
        if self.randaugment and self.preprocess.channels not in (1, 3):
            raise UserError(
                'config.augment.randaugment is for images of 1 or 3 channels, not '
                f'{self.preprocess.channels}'
            )
        if self.fast:
            fast.library()

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The example with its image augmented and resized to the size of `preprocess`."""
        return dict(example) | {'image': self._augmented(value_of(example, 'image'), rng)}

    def _augmented(self, image: Any, rng: np.random.Generator) -> np.ndarray:
        if self.crop is None:
            choose_box = self.preprocess.cut().choose_box
        else:
            choose_box = functools.partial(random_box, rng=rng, area=self.crop, aspect=self.aspect)
        cut = Cut(choose_box, self.preprocess.image_size, self.preprocess.resample, self.fast)
        image = decode(image, self.preprocess.channels, cut)
        uses_pillow = self.rotate or self.scale or self.randaugment
        if uses_pillow and (image.dtype != np.uint8 or image.shape[-1] not in (1, 3, 4)):
            raise UserError(
                'config.augment: rotate, scale and randaugment are for images of 8 bits and 1, 3 or 4 '
                f'channels, not {image.dtype} {list(image.shape)}'
            )
        most = self.shift
        if self.rotate or self.scale:
            degrees = rng.uniform(-1, 1) * self.rotate
            scale = (1 + self.scale) ** rng.uniform(-1, 1, 2)
            image = warp(image, degrees, scale, rng.uniform(-most, most, 2))
        elif most:
            image = shift(image, *rng.integers(-most, most + 1, 2))
        if self.flip and rng.random() < 0.5:
            image = flip(image)
        if self.randaugment is not None:
            image = rand_augment(image, rng, *self.randaugment)
        return image


AUGMENTS: dict[str, Callable[..., Augment]] = {'standard': StandardAugment}


def make_augment(name: Any, values: Mapping[str, Any], preprocess: Preprocess | None) -> Augment:
    """Makes the augmentation that a config names.

    An augmentation whose constructor has the argument `preprocess` decodes and resizes images itself. Any
    other one gets decoded images, and the images that it returns are resized.

    Args:
      name: a name of `AUGMENTS`, an import path, or a callable (example, rng) -> example.
      values: the other keys of `config.augment`.
      preprocess: None if examples have no image; then 'standard' does nothing.
    """
    if name is None:
        raise UserError('the augmentation was given as an object in Python; give it again')
    found = registry.find('augment', name)
    if 'preprocess' not in registry.parameters(found):
        return Augmented(registry.bind('augment', found, values), preprocess)
    return identity if preprocess is None else found(preprocess=preprocess, **values)


@dataclasses.dataclass(frozen=True)
class Augmented:
    """An augmentation of decoded images, which are then resized to the model's size.

    Attributes:
      augment: (example, rng) -> example.
      preprocess: None if examples have no image.
    """

    augment: Augment
    preprocess: Preprocess | None

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        if 'image' in example:
            example = dict(example) | {'image': decode(example['image'])}
        changed = self.augment(example, rng)
        self._check(example, changed)
        if self.preprocess is None or 'image' not in changed:
            return dict(changed)
        return dict(changed) | {'image': self.preprocess.fit(changed['image'])}

    def _check(self, example: Mapping[str, Any], changed: Any) -> None:
        if not isinstance(changed, Mapping):
            raise UserError(
                f'config.augment returned {type(changed).__name__}, but an example is a dict'
            )
        if 'image' not in example or 'image' not in changed:
            return
        given, found = example['image'].dtype, np.asarray(changed['image']).dtype
        # Integers are scaled to [0, 1] before they are normalised, floats are not.
        if found != given and not (given.kind == 'f' == found.kind):
            raise UserError(
                f'config.augment returned an image of {found} for one of {given}: it would be scaled '
                f'in another way than in evaluation; return {given}'
            )


@dataclasses.dataclass(frozen=True)
class Preprocessed:
    """Decodes, resizes and crops the image of an example for evaluation; deterministic, not normalised."""

    preprocess: Preprocess

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        del rng
        return dict(example) | {'image': self.preprocess.pixels(value_of(example, 'image'))}


def identity(example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Transform that changes nothing."""
    del rng
    return dict(example)


def to_arrays(example: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts the values of an example to arrays of dtypes that devices support.

    int64 and uint64 become 32-bit integers, float64 becomes float32; other dtypes are kept.

    Raises:
      UserError: a value is not numeric, or an integer does not fit into 32 bits; the key 'mask' is present,
        which is reserved for the mask of the batch.
    """
    if 'mask' in example:
        raise UserError("it has the key 'mask', which marks the padding of a batch; rename it")
    return {key: _to_array(key, value) for key, value in example.items()}


def _to_array(key: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in 'biuf' and array.dtype.name != 'bfloat16':
        raise UserError(
            f'its {key!r} is {type(value).__name__}, not numbers; leave it out or encode it, in an '
            'augmentation or in the transform of a task'
        )
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype in (np.int64, np.uint64):
        narrow = np.int32 if array.dtype == np.int64 else np.uint32
        if array.size and (
            array.min() < np.iinfo(narrow).min or array.max() > np.iinfo(narrow).max
        ):
            raise UserError(f'its {key!r} has a number that does not fit into {np.dtype(narrow)}')
        return array.astype(narrow)
    return array


def check_label(example: Mapping[str, Any], num_classes: int | None) -> np.int32:
    """The label of an example as int32; UserError unless it is the number of a class."""
    given = np.asarray(value_of(example, 'label'))
    label = np.int32(given)
    if label.shape or label != given:
        raise UserError(f'its label is {example["label"]!r}, not the number of a class')
    # num_classes may be unknown. TFDS has labels of -1 for splits whose labels are secret.
    if num_classes and not 0 <= label < num_classes:
        raise UserError(f'its label is {label}, but there are {num_classes} classes')
    return label


def value_of(example: Mapping[str, Any], key: str) -> Any:
    """The value of a key of an example; UserError if it is missing."""
    if key not in example:
        raise UserError(f'it has no {key!r}, but {", ".join(map(repr, example))}')
    return example[key]
