"""A source whose images lie in memory."""

import dataclasses

import numpy as np

from vitjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Images and labels in memory, as a source.

    Attributes:
      name: for messages.
      images: uint8 [N, H, W, C].
      labels_of: integers [N], the class of each image.
      labels: names of the classes.

    Raises:
      UserError: there is no image, or a label names no class.
    """

    name: str
    images: np.ndarray
    labels_of: np.ndarray
    labels: tuple[str, ...]

    def __post_init__(self):
        if not len(self.images):
            raise UserError(f'{self.name} holds no images')
        outside = np.flatnonzero((self.labels_of < 0) | (self.labels_of >= len(self.labels)))
        if len(outside):
            raise UserError(
                f'{self.describe(outside[0])} has label {self.labels_of[outside[0]]}, '
                f'but there are {len(self.labels)} classes'
            )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {'image': self.images[index], 'label': int(self.labels_of[index])}

    def describe(self, index: int) -> str:
        return f'image {index} of {self.name}'
