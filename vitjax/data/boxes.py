"""Boxes of images: (top, left, height, width) in pixels, which need not be whole."""

import math

import numpy as np

Box = tuple[float, float, float, float]
Size = tuple[int, int]


def central_box(height: int, width: int, size: Size, crop: float = 1.0) -> Box:
    """The central box of the proportions of `size` that keeps `crop` of what fits in the image."""
    scale = crop * min(height / size[0], width / size[1])
    # Rounding could make it a hair larger than the image.
    inner = min(height, size[0] * scale), min(width, size[1] * scale)
    return (height - inner[0]) / 2, (width - inner[1]) / 2, *inner


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A box of random area and width / height; the central one if ten tries do not fit.

    Source: the crops of Szegedy et al. 2015, "Going deeper with convolutions", section 6.
    """
    for _ in range(10):
        share, ratio = rng.uniform(*area), math.exp(rng.uniform(*map(math.log, aspect)))
        inner_height = round(math.sqrt(share * height * width / ratio))
        inner_width = round(math.sqrt(share * height * width * ratio))
        if 0 < inner_height <= height and 0 < inner_width <= width:
            top = rng.integers(height - inner_height + 1)
            left = rng.integers(width - inner_width + 1)
            return top, left, inner_height, inner_width
    ratio = min(max(width / height, aspect[0]), aspect[1])
    return central_box(height, width, (1, ratio))


def scaled(box: Box, size: Size, to: Size) -> Box:
    """A box of an image of one (height, width) where the same image has another."""
    down, across = to[0] / size[0], to[1] / size[1]
    return box[0] * down, box[1] * across, box[2] * down, box[3] * across


def least_size(whole: Size, box: Box, size: Size, gap: float) -> Size:
    """(height, width) of an image whose `box` has `gap` times a `size`; `whole` is what it has now."""
    height, width = (
        math.ceil(gap * all_of_it * wanted / part)
        for all_of_it, wanted, part in zip(whole, size, box[2:], strict=True)
    )
    return height, width
