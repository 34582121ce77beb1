"""Representations of the examples of a split, for evaluations of frozen features."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils

from vitjax.errors import UserError
from vitjax.models.contract import call_options
from vitjax.protocols import EvaluationEvent


@dataclasses.dataclass(frozen=True)
class Features:
    """Frozen features of a split.

    Attributes:
      values: float32 [N, D], the model's `pooled` features.
      labels: integers [N].
    """

    values: np.ndarray
    labels: np.ndarray


def collect_features(event: EvaluationEvent, split: str | None = None) -> Features:
    """The features of every example of a split, each once and in order, on every host.

    Args:
      split: None for that of the event.

    Raises:
      UserError: the model has no features, or the data no labels.
    """
    model = event.experiment.model
    if not callable(getattr(model, 'features', None)):  # of some modules it is a number
        raise UserError(
            f'{type(model).__name__} has no method features, by which frozen features are evaluated'
        )
    values, labels = [], []
    for batch in event.batches if split is None else event.batches(split=split):
        if missing := {'image', 'label'} - batch.keys():
            raise UserError(f'the data have no {min(missing)!r}, by which features are evaluated')
        pooled = _pooled(model)(event.variables, batch['image'])
        mask = _on_host(batch['mask'])
        values.append(_on_host(pooled)[mask])
        labels.append(_on_host(batch['label'])[mask])
    return Features(np.concatenate(values).astype(np.float32), np.concatenate(labels))


@functools.lru_cache(maxsize=4)
def _pooled(model: nn.Module) -> Any:
    """Jitted once for a model, not at each evaluation."""
    options = call_options(model, False, 'features')

    @jax.jit
    def pooled(variables, images):
        return model.apply(variables, images, method='features', **options)['pooled']

    return pooled


def _on_host(array: jax.Array) -> np.ndarray:
    """A global array, whole, on every host."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
