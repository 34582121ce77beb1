"""Preprocessing of images: decoding, cropping, resizing and normalising."""

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
      crop: share of the shorter side that the central crop keeps.
      mean, std: of pixels in [0, 1]; one value for all channels, or one per channel.
      interpolation: 'bilinear', 'bicubic' or another name of `PIL.Image.Resampling`, in lower case.
      squash: whether the crop keeps the share `crop` of each side, which changes the aspect ratio.
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
        """One image, decoded, cropped and resized, not normalised: [H, W, C], uint8 or the array's dtype."""
        return decode(image, self.channels, self.cut(self.crop))

    def fit(self, image: Any) -> np.ndarray:
        """One training image, decoded and resized, with the largest crop that fits: [H, W, C]."""
        return decode(image, self.channels, self.cut())

    def cut(self, crop: float = 1.0) -> Cut:
        """The central crop that keeps the share `crop` of the image's side."""
        return central_cut(self.image_size, crop, self.squash, self.resample)

    @property
    def resample(self) -> Image.Resampling:
        """The interpolation as a constant of Pillow."""
        return Image.Resampling[self.interpolation.upper()]

    def normalise(self, pixels: jax.Array | np.ndarray) -> jax.Array:
        """Pixels [B, H, W, C] -> float32, (pixels - mean) / std.

        Integers are first scaled to [0, 1]; floats are taken to be in [0, 1]. It runs on the device, because
        transferring uint8 takes a quarter of the bytes.
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
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in read_json(path).items()
            }
            return cls(**values)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f'{path} is damaged: {error}') from error
