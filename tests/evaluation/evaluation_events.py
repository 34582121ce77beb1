"""Events of an evaluation, with splits that are arrays in memory."""

import contextlib
import dataclasses
import types
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SPLITS = {'train': 60, 'test': 23}  # neither is a multiple of the batch size


@dataclasses.dataclass
class Traces:
    """Shapes of the images of each trace of a model. As a field of a module it cannot be hashed."""

    shapes: list[tuple[int, ...]] = dataclasses.field(default_factory=list)


class Identity(nn.Module):
    """A model whose features are the pixels times a parameter."""

    traces: Any = None  # `Traces`

    @nn.compact
    def __call__(self, images):
        scale = self.param('scale', nn.initializers.ones, ())
        if self.traces is not None:
            self.traces.shapes.append(images.shape)
        return images.reshape(len(images), -1) * scale

    def features(self, images):
        return {'pooled': self(images)}


class Batches:
    """Iterable over a split's batches; called with another split, those of that one."""

    def __init__(self, splits, split, mesh, batch_size):
        self._splits, self._split, self._mesh, self._size = splits, split, mesh, batch_size

    def __call__(self, split):
        return Batches(self._splits, split, self._mesh, self._size)

    def __iter__(self):
        arrays = self._splits[self._split]
        count = len(next(iter(arrays.values())))
        sharding = NamedSharding(self._mesh, PartitionSpec(('data', 'fsdp')))
        for start in range(0, count, self._size):
            rows = np.arange(start, start + self._size)
            batch = {name: values[rows % count] for name, values in arrays.items()}
            batch['mask'] = rows < count
            yield {name: jax.device_put(values, sharding) for name, values in batch.items()}


def make_event(splits, *, model=None, variables=None, labels=None, split='test', batch_size=8):
    """An event over all devices; `splits` is name -> {'image': [N, H, W, C], 'label': [N]}."""
    mesh = Mesh(np.array(jax.devices()).reshape(-1, 1, 1), ('data', 'fsdp', 'tensor'))
    experiment = types.SimpleNamespace(
        model=model or Identity(),
        mesh=mesh,
        data=types.SimpleNamespace(labels=labels),
        context=lambda: contextlib.nullcontext(),
    )
    return types.SimpleNamespace(
        step=1,
        experiment=experiment,
        variables=variables or {'params': {'scale': np.float32(1)}},
        split=split,
        train_split='train',
        batches=Batches(splits, split, mesh, batch_size),
    )


def random_splits(classes=7, size=(2, 3, 1), counts=None):
    """Splits of noisy class means, in which the classes of 'train' are equally frequent."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(classes, *size))
    splits = {}
    for name, count in (counts or SPLITS).items():
        labels = rng.permutation(np.arange(count) % classes).astype(np.int32)
        noise = rng.normal(size=(count, *size))
        images = (means[labels] + 1.5 * noise).astype(np.float32)
        splits[name] = {'image': images, 'label': labels}
    return splits
