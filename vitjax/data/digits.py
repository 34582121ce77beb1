"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn."""

import functools
from collections.abc import Callable, Mapping

import numpy as np

from vitjax.data.arrays import Arrays
from vitjax.data.splits import spread_classes
from vitjax.errors import UserError


def splits(path: str | None = None) -> Mapping[str, Callable[[], Arrays]]:
    """'train' with 1,437 images and 'test' with 360, a fixed, stratified fifth.

    Any contiguous part of 'train' has nearly equal numbers of all classes.
    """
    if path is not None:
        raise UserError(f"data set 'digits' is scikit-learn's own and has no path, got {path!r}")
    return {name: functools.partial(_open, name) for name in ('train', 'test')}


def _open(split: str) -> Arrays:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    train, test = train_test_split(
        np.arange(len(data.target)), test_size=0.2, stratify=data.target, random_state=0
    )
    chosen = train[spread_classes(data.target[train])] if split == 'train' else test
    images = np.round(data.images[chosen] * (255 / 16)).astype(np.uint8)[..., None]
    return Arrays(f'digits {split}', images, data.target[chosen], tuple('0123456789'))
