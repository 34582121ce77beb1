"""A trained model with all that its use takes."""

import dataclasses
from typing import Any

from flax import linen as nn


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model, its weights and what surrounds it.

    Attributes:
      model: the Flax module.
      variables: what `model.apply` takes: {'params': ...} and other collections, if it has any.
      preprocess: a `vitjax.data.preprocess.Preprocess` for a model of images: images (paths, PIL, uint8
        arrays) -> [B, H, W, C] float32, as the model takes them; a `vitjax.data.text.TextPreprocess` for a
        translation model: texts -> tokens and mask [B, S]; None for any other model.
      labels: names of the classes, None if unknown.
      info: the config of its training (`config`), the step, the source, its layout, and how its
        family resamples positions (`resampling`).
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocess: Any  # callable; a union of its kinds would have to be narrowed at each use
    labels: tuple[str, ...] | None
    info: dict[str, Any]
