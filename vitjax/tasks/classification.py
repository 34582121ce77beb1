"""Image classification: cross-entropy over the classes."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import linen as nn

from vitjax.data.inputs import ImageData, open_images, read_labels, unread_images
from vitjax.errors import UserError

_QUANTILES = 1024


@dataclasses.dataclass(frozen=True)
class Classification:
    """One label an image.

    Attributes:
      label_smoothing: share of the target that is spread over all classes, in training only.
      mixup: alpha of the Beta distribution that says how much of another image of the batch (or
        micro-batch) is mixed in, and of its target, in training only; 0 for nothing (Zhang et al.
        2018).
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0

    metric_names = ('loss', 'accuracy')
    quality_names = ()

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f'label_smoothing must be in [0, 1), not {self.label_smoothing}')
        if not 0 <= self.mixup < math.inf:
            raise ValueError(f'mixup must be at least 0, not {self.mixup}')

    def open_data(
        self, config: ml_collections.ConfigDict, run: Path | None = None, training: bool = True
    ) -> ImageData:
        """The labelled images that `config.data` names; UserError if the model's classes are others."""
        _check_model(config)
        data, model = open_images(config, training), config.model
        if not training and run is not None:
            _check_labels(data, run)
        if data.labels and model.num_classes != len(data.labels):
            raise UserError(
                f'config.model.num_classes is {model.num_classes}, but {config.data.name} has '
                f'{len(data.labels)} classes; add --config.model.num_classes={len(data.labels)}'
            )
        return data

    def unread_data(self, config: ml_collections.ConfigDict) -> ImageData:
        """The shapes of these images, which are not read."""
        _check_model(config)
        return unread_images(config)

    def metrics(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        batch: dict[str, jax.Array],
        *,
        rngs: dict[str, jax.Array],
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Loss and accuracy of a batch: image [B, H, W, C] normalised, label [B] int, mask [B] bool.

        Where images are mixed, an answer is right if it names the one of which there is more.
        """
        images, mask = batch['image'], batch['mask']
        mixing = train and self.mixup
        if mixing:
            own = _own_share(rngs['dropout'], self.mixup, mask)
            images = _mixed(images, own)
        model_state = {name: value for name, value in variables.items() if name != 'params'}
        logits, model_state = model.apply(
            variables,
            images,
            train=train,
            rngs=rngs,
            mutable=list(model_state) if train else [],
        )  # [B, K]
        targets = jax.nn.one_hot(batch['label'], logits.shape[-1])
        if train:
            targets = optax.smooth_labels(targets, self.label_smoothing)
        if mixing:
            targets = _mixed(targets, own)
        loss = optax.softmax_cross_entropy(logits, targets)  # [B]
        correct = logits.argmax(-1) == batch['label']
        count = mask.sum(dtype=jnp.float32)

        def total(values):
            return jnp.stack([jnp.where(mask, values, 0).sum(dtype=jnp.float32), count])

        metrics = {'loss': total(loss), 'accuracy': total(correct)}
        return metrics, model_state

    def quality(self, model: nn.Module, variables: dict[str, Any], data: ImageData) -> dict:
        """Nothing: accuracy is measured batch by batch."""
        return {}


def _own_share(rng: jax.Array, alpha: float, mask: jax.Array) -> jax.Array:
    """How much of itself an example keeps, [B]: half at least, all where none is before it to mix in.

    One of the quantiles of the distribution: `jax.random.beta` takes a second to compile.
    """
    from scipy import special  # a tenth of a second, only for those who mix

    places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    above_half = special.betaincinv(alpha, alpha, (1 + places) / 2)
    share = jax.random.choice(jax.random.fold_in(rng, 0), jnp.asarray(above_half, jnp.float32))
    return jnp.where(jnp.roll(mask, 1), share, 1)


def _mixed(values: jax.Array, own: jax.Array) -> jax.Array:
    """Each of the values [B, ...] with some of the one before it in the batch."""
    own = own.reshape(-1, *(1,) * (values.ndim - 1))
    return own * values + (1 - own) * jnp.roll(values, 1, axis=0)


def _check_labels(data: ImageData, run: Path) -> None:
    """UserError if the classes are not those of the run; a folder of images may lack some."""
    trained = read_labels(run)
    if trained and data.labels and trained != data.labels:
        here, there = (f'{len(names)} ({", ".join(names[:5])})' for names in (data.labels, trained))
        raise UserError(
            f'{data.evaluation.name} has other classes, {here}, than {run} was trained on, {there}; '
            'they must be the same and in the same order'
        )


def _check_model(config: ml_collections.ConfigDict) -> None:
    if 'image_size' not in config.model:
        raise UserError(f'classification takes a model of images, not {config.model.name}')
    if 'num_classes' not in config.model:
        raise UserError(f'config.model.name {config.model.name} has no classes to tell apart')
