"""Frozen features of a whole split, on the host: the input of evaluators such as kNN."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vitjax.errors import UserError


def collect_features(event: Any, split: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The pooled features and the labels of every example of a split, once each and in order.

    Every host gets the features of all examples: the training split of ImageNet takes 3.9 GB of memory at
    width 768. The function that computes them is compiled once for a model, not at each evaluation.

    Args:
      event: of an evaluator, with `experiment`, `variables`, `split` and `batches`.
      split: None for the event's own split.

    Returns:
      features, float32 [N, D], and labels, integers [N].

    Raises:
      UserError: the model has no `features`, or the batches no images or no class labels.
    """
    experiment = event.experiment
    model = experiment.model
    if not callable(getattr(model, 'features', None)):  # a field of a module may have this name
        raise UserError(
            f'{type(model).__name__} has no method features, which an evaluation of features calls'
        )
    name = event.split if split is None else split
    features, labels = [], []
    with experiment.context():
        for batch in event.batches if split is None else event.batches(split=split):
            if missing := [key for key in ('image', 'label') if key not in batch]:
                raise UserError(
                    f'the batches of split {name!r} have no {missing[0]!r}, which an evaluation of '
                    'features needs'
                )
            if batch['label'].ndim != 1 or not jnp.issubdtype(batch['label'].dtype, jnp.integer):
                raise UserError(
                    f'the labels of split {name!r} are {batch["label"].dtype} '
                    f'{list(batch["label"].shape)}; an evaluation of features needs one class index '
                    'an example'
                )
            pooled = _pooled_features(
                _Static(model), experiment.mesh, event.variables, batch['image']
            )
            label, mask = _replicate(experiment.mesh, (batch['label'], batch['mask']))
            mask = np.asarray(mask)
            features.append(np.asarray(pooled)[mask])
            labels.append(np.asarray(label)[mask])
    if not labels or not sum(map(len, labels)):
        raise UserError(f'split {name!r} has no examples')
    features, labels = np.concatenate(features), np.concatenate(labels)
    if labels.min() < 0:
        raise UserError(f'split {name!r} has examples without a label: {labels.min()}')
    return features, labels


class _Static:
    """A model as a static argument of a jitted function, whether its fields can be hashed or not."""

    def __init__(self, model: nn.Module):
        self.model = model

    def __hash__(self):
        return id(self.model)

    def __eq__(self, other):
        return isinstance(other, _Static) and self.model is other.model


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pooled_features(
    static: _Static, mesh: Mesh, variables: dict[str, Any], images: jax.Array
) -> jax.Array:
    """images [B, H, W, C] -> pooled [B, D] float32, the whole of it on every device."""
    found = static.model.apply(variables, images, method='features')
    name = type(static.model).__name__
    if 'pooled' not in found:
        raise UserError(f"{name}.features returns no 'pooled', but {', '.join(sorted(found))}")
    if found['pooled'].ndim != 2:
        raise UserError(
            f"{name}.features returns 'pooled' of shape {found['pooled'].shape}, not [B, D]"
        )
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.lax.with_sharding_constraint(found['pooled'].astype(jnp.float32), replicated)


@functools.partial(jax.jit, static_argnums=0)
def _replicate(mesh: Mesh, arrays: Any) -> Any:
    """Arrays that every device, and so every host, holds whole."""
    return jax.lax.with_sharding_constraint(arrays, NamedSharding(mesh, PartitionSpec()))
