"""From an image as it lies to what a model takes; the same in training, evaluation and later use."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vitjax.config import PREPROCESSING
from vitjax.data.images import Cut, central_cut, decode
from vitjax.errors import UserError, unknown
from vitjax.files import read_json, write_atomically


def settings_for_channels(channels: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """`Preprocess.facts` for images of so many channels: for gray ones what holds for RGB, on average."""
    facts = dict(facts)
    for name in ('mean', 'std'):
        values = tuple(map(float, np.atleast_1d(facts[name])))
        facts[name] = (sum(values) / len(values),) if channels == 1 else values
    return facts


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Decodes, resizes, crops and normalises images.

    Attributes:
      image_size: (height, width) in pixels.
      channels: 1 gray, 3 RGB, 4 RGBA; any number for images that are given as arrays.
      crop: part of the shorter side that the central crop keeps.
      squash: whether the crop keeps that part of each side, whatever the proportions.
      mean, std: of pixels in [0, 1], one for all channels or one each.
      interpolation: of pixels, 'bilinear', 'bicubic' or another of Pillow's.
    """

    image_size: tuple[int, int]
    channels: int
    crop: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = 'bicubic'
    squash: bool = False

    def __post_init__(self):
        if self.channels < 1:
            raise UserError(f'images have at least 1 channel, not {self.channels}')
        if not 0 < self.crop <= 1:
            raise UserError(f'crop must be above 0 and at most 1, not {self.crop}')
        for name in ('mean', 'std'):
            if len(getattr(self, name)) not in (1, self.channels):
                raise UserError(
                    f'{name} has {len(getattr(self, name))} values for {self.channels} channels'
                )
        if min(self.std) <= 0:
            raise UserError(f'std must be positive, not {self.std}')
        known = [name.lower() for name in Image.Resampling.__members__]
        if self.interpolation not in known:
            raise unknown('interpolation', self.interpolation, known)

    def __call__(self, images: Any) -> jax.Array:
        """Images -> [B, H, W, C] float32, normalised.

        Args:
          images: one image, a list of images, or an array [B, H, W, C] of them; an image is a path,
            the bytes of an image file, a PIL image, or an array [H, W] or [H, W, C], see `decode`.
        """
        several = isinstance(images, (list, tuple)) or getattr(images, 'ndim', 0) == 4
        return self.normalise(np.stack([*map(self.pixels, images if several else [images])]))

    def pixels(self, image: Any) -> np.ndarray:
        """One image, decoded, resized and cropped, not yet normalised: [H, W, C], uint8 or its own dtype."""
        return decode(image, self.channels, self.cut(self.crop))

    def fit(self, image: Any) -> np.ndarray:
        """One training image, decoded and brought to the size, of which all is kept that fits: [H, W, C]."""
        return decode(image, self.channels, self.cut())

    def cut(self, crop: float = 1.0) -> Cut:
        """The central part of an image that keeps `crop` of its side."""
        return central_cut(self.image_size, crop, self.squash, self.resample)

    @property
    def resample(self) -> Image.Resampling:
        """The interpolation as Pillow has it."""
        return Image.Resampling[self.interpolation.upper()]

    def normalise(self, pixels: jax.Array | np.ndarray) -> jax.Array:
        """[B, H, W, C] -> float32; runs on the device, since uint8 is a quarter to carry there.

        uint8 and uint16 are first scaled to [0, 1]; floats are taken to be so.
        """
        pixels = jnp.asarray(pixels)
        scaled = pixels.astype(jnp.float32)
        if not jnp.issubdtype(pixels.dtype, jnp.floating):
            scaled /= jnp.iinfo(pixels.dtype).max
        return (scaled - jnp.array(self.mean)) / jnp.array(self.std)

    @property
    def facts(self) -> dict[str, Any]:
        """What does not depend on the model's input: all but size and channels."""
        values = dataclasses.asdict(self)
        return {name: values[name] for name in PREPROCESSING}

    def save(self, folder: Path) -> None:
        """Writes `preprocess.json`."""
        values = json.dumps(dataclasses.asdict(self), indent=2)
        write_atomically(folder / 'preprocess.json', values + '\n')

    @classmethod
    def load(cls, folder: Path) -> 'Preprocess':
        """Reads what `save` wrote; UserError if it is missing or damaged."""
        path = folder / 'preprocess.json'
        try:
            values = read_json(path).items()
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values})
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f'{path} is damaged: {error}') from error
