"""An event whose model hands the images through as features."""

import contextlib
import types

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.protocols import EvaluationEvent

BATCH = 4


class Same(nn.Module):
    """A model whose features are its images."""

    def __call__(self, images):
        return images

    def features(self, images, *, attention=False, train=False):
        return {'pooled': images}


def batches_of(features, labels):
    """Batches with padding that would count as another class, if it counted."""
    found = []
    for start in range(0, len(labels), BATCH):
        x, y = features[start : start + BATCH], labels[start : start + BATCH]
        more = BATCH - len(y)
        found.append(
            {
                'image': jnp.asarray(
                    np.pad(x, ((0, more), (0, 0)), constant_values=9), jnp.float32
                ),
                'label': jnp.asarray(np.pad(y, (0, more), constant_values=2), jnp.int32),
                'mask': jnp.arange(BATCH) < len(y),
            }
        )
    return found


class Batches:
    def __init__(self, splits, split):
        self.splits, self.split = splits, split

    def __iter__(self):
        return iter(batches_of(*self.splits[self.split]))

    def __call__(self, split):
        return Batches(self.splits, split)


@pytest.fixture
def pooled_event():
    """(train features [N, D], labels [N], test features [M, D], labels [M]) -> an event."""

    def event(train, train_labels, test, labels):
        splits = {'train': (train, train_labels), 'test': (test, labels)}
        experiment = types.SimpleNamespace(model=Same(), context=contextlib.nullcontext)
        return EvaluationEvent(
            step=1,
            experiment=experiment,
            variables={},
            split='test',
            train_split='train',
            batches=Batches(splits, 'test'),
            evaluate=dict,
        )

    return event
