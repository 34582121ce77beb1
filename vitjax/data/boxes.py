"""Boxes of images: (top, left, height, width) in pixels, which may be fractions."""

import math

import numpy as np

Box = tuple[float, float, float, float]
Size = tuple[int, int]


def central_box(height: int, width: int, size: tuple[float, float], crop: float = 1.0) -> Box:
    """The largest central box with the aspect ratio of `size`, its sides scaled by `crop`."""
    scale = crop * min(height / size[0], width / size[1])
    # Rounding could make the box slightly larger than the image.
    inner = min(height, size[0] * scale), min(width, size[1] * scale)
    return (height - inner[0]) / 2, (width - inner[1]) / 2, *inner


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A box of random area and aspect ratio; the central one if none of ten fits in the image.

    Args:
      area: least and greatest share of the image's area.
      aspect: least and greatest width / height.

    Source: the crops of Szegedy et al. 2015, "Going deeper with convolutions", section 6.
    """
    for _ in range(10):
        share = rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        inner_height = round(math.sqrt(share * height * width / ratio))
        inner_width = round(math.sqrt(share * height * width * ratio))
        if 0 < inner_height <= height and 0 < inner_width <= width:
            top = int(rng.integers(height - inner_height + 1))
            left = int(rng.integers(width - inner_width + 1))
            return top, left, inner_height, inner_width
    ratio = min(max(width / height, aspect[0]), aspect[1])
    return central_box(height, width, (1, ratio))


def scaled(box: Box, size: Size, to: Size) -> Box:
    """The box in an image of (height, width) `size`, in pixels of the same image resized to `to`."""
    down, across = to[0] / size[0], to[1] / size[1]
    return box[0] * down, box[1] * across, box[2] * down, box[3] * across


def least_size(image_size: Size, box: Box, size: Size, gap: float) -> Size:
    """The least size to which an image can be reduced before its `box` is resized to `size`.

    In the reduced image, the box still has `gap` times the `size`. All sizes are (height, width).
    """
    height, width = (
        math.ceil(gap * side * to / part)
        for side, to, part in zip(image_size, size, box[2:], strict=True)
    )
    return height, width
