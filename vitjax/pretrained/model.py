"""A trained model with all that its use takes."""

import dataclasses
from typing import Any

from flax import linen as nn

from vitjax.data.preprocess import Preprocess
from vitjax.data.text import TextPreprocess


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model, its weights and what surrounds it.

    Attributes:
      model: the Flax module.
      variables: what `model.apply` takes: {'params': ...} and other collections, if it has any.
      preprocess: images (paths, PIL, uint8 arrays) -> [B, H, W, C] float32, as the model takes them;
        of a translation model, texts -> tokens and mask [B, S], see `TextPreprocess`; None for a model of
        neither.
      labels: names of the classes, None if unknown.
      info: the config of its training (`config`), the step, the source, its layout, and how its
        family resamples positions (`resampling`).
    """

    model: nn.Module
    variables: dict[str, Any]
    preprocess: Preprocess | TextPreprocess | None
    labels: tuple[str, ...] | None
    info: dict[str, Any]
