"""A source whose examples are in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Images with labels or other targets, in memory, as a source.

    An example has the key 'image', 'label' if `labels_of` is given, and the keys of `more`.

    Attributes:
      name: for messages.
      images: [N, H, W, C], uint8, uint16 or float.
      labels_of: [N, ...], the class of each image, or another target such as a float; None for no target.
      labels: names of the classes, indexed by `labels_of`; None if there are no classes.
      more: further keys of an example -> array [N, ...].

    Raises:
      UserError: there is no image, arrays differ in length, or a label is not the number of a class.
    """

    name: str
    images: np.ndarray
    labels_of: np.ndarray | None = None
    labels: tuple[str, ...] | None = None
    more: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not len(self.images):
            raise UserError(f'{self.name} holds no images')
        targets = {} if self.labels_of is None else {'labels_of': self.labels_of}
        for key, array in {**targets, **self.more}.items():
            if len(array) != len(self.images):
                raise UserError(
                    f'{self.name} has {len(self.images)} images, but {len(array)} of {key!r}'
                )
        if self.labels is None or self.labels_of is None:
            return
        outside = np.flatnonzero((self.labels_of < 0) | (self.labels_of >= len(self.labels)))
        if len(outside):
            raise UserError(
                f'{self.describe(outside[0])} has label {self.labels_of[outside[0]]}, '
                f'but there are {len(self.labels)} classes'
            )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example: dict[str, Any] = {'image': self.images[index]}
        if self.labels_of is not None:
            example['label'] = self.labels_of[index]
        return example | {key: array[index] for key, array in self.more.items()}

    def describe(self, index: int) -> str:
        return f'image {index} of {self.name}'
