"""Image classification: cross-entropy over the classes."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.data.inputs import DataOptions, ExampleData, Transform, open_examples, read_labels
from vitjax.data.transforms import check_label, value_of
from vitjax.errors import UserError
from vitjax.protocols import Decodes
from vitjax.tasks.task import Task, name_of

_QUANTILES = 1024


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """One label an image.

    Attributes:
      label_smoothing: share of the target that is spread over all classes, in training only.
      mixup: alpha of the Beta distribution that says how much of another image of the batch (or
        micro-batch) is mixed in, and of its target, in training only; 0 for nothing (Zhang et al.
        2018).
    """

    label_smoothing: float = 0.0
    mixup: float = 0.0

    needs_classes = True

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f'label_smoothing must be in [0, 1), not {self.label_smoothing}')
        if not 0 <= self.mixup < math.inf:
            raise ValueError(f'mixup must be at least 0, not {self.mixup}')

    def check_model(self, model: Any) -> None:
        """UserError for a model that does not tell classes of images apart."""
        if isinstance(model, Decodes):
            raise UserError(f'classification takes a model of images, not a {name_of(model)}')
        if not hasattr(model, 'num_classes'):
            raise UserError(
                f'classification takes a model with num_classes, which {name_of(model)} has not'
            )

    def open_data(self, options: DataOptions) -> ExampleData:
        """The labelled images that `config.data` names; UserError if the model's classes are others."""
        num_classes = options.model.num_classes
        data = open_examples(options, functools.partial(labelled, num_classes=num_classes))
        if not options.training and options.run is not None:
            _check_labels(data, options.run)
        if data.labels and num_classes != len(data.labels):
            raise UserError(
                f'config.model.num_classes is {num_classes}, but {options.keys["name"] or "the data"} has '
                f'{len(data.labels)} classes; add --config.model.num_classes={len(data.labels)}'
            )
        return data

    def loss(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        batch: Mapping[str, jax.Array],
        *,
        rngs: Mapping[str, jax.Array],
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Loss and accuracy of a batch: image [B, H, W, C] normalised, label [B] int, mask [B] bool.

        Where images are mixed, an answer is right if it names the one of which there is more.
        """
        import optax  # importing it takes 0.1 s, which `vitjax predict` does not need

        images, mask = batch['image'], batch['mask']
        mixing = train and self.mixup
        if mixing:
            own = _own_share(rngs['dropout'], self.mixup, mask)
            images = _mixed(images, own)
        logits, state = self.apply(model, variables, images, train=train, rngs=rngs)  # [B, K]
        targets = jax.nn.one_hot(batch['label'], logits.shape[-1])
        if train:
            targets = optax.smooth_labels(targets, self.label_smoothing)
        if mixing:
            targets = _mixed(targets, own)
        loss = optax.softmax_cross_entropy(logits, targets)  # [B]
        return {'loss': loss, 'accuracy': logits.argmax(-1) == batch['label']}, state

    def predict(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """Logits [B, K] -> probabilities [B, K]."""
        return {'probabilities': jax.nn.softmax(outputs)}

    def check_predicts(self, model: nn.Module, source: str) -> None:
        """UserError where a model has no classes."""
        if not getattr(model, 'num_classes', 0):
            raise UserError(f'{source} has no classes; fine-tune it with --config vitjax:finetune')

    def answer(
        self, prediction: Mapping[str, np.ndarray], labels: tuple[str, ...] | None, top: int
    ) -> tuple[str, dict[str, Any]]:
        """The most likely labels of an image, with their probabilities."""
        scores = prediction['probabilities']  # [K]
        best = [
            (labels[k] if labels else str(k), float(scores[k]))
            for k in np.argsort(-scores, kind='stable')[:top]
        ]
        text = '  '.join(f'{label} {score:.3f}' for label, score in best)
        return text, {'top': [{'label': label, 'probability': score} for label, score in best]}


def labelled(
    example: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    augment: Transform,
    train: bool,
    num_classes: int,
) -> dict[str, Any]:
    """Image and label of an example, the rest of which is not looked at."""
    image = augment({'image': value_of(example, 'image')}, rng)['image']
    return {'image': image, 'label': check_label(example, num_classes)}


def _own_share(rng: jax.Array, alpha: float, mask: jax.Array) -> jax.Array:
    """Mixup lambda of each example, [B], in [0.5, 1]; 1 where the previous row is padding.

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


def _check_labels(data: ExampleData, run: Path) -> None:
    """UserError if the classes are not those of the run; a folder of images may lack some."""
    trained = read_labels(run)
    if trained and data.labels and trained != data.labels:
        here, there = (f'{len(names)} ({", ".join(names[:5])})' for names in (data.labels, trained))
        raise UserError(
            f'{data.evaluation.name} has other classes, {here}, than {run} was trained on, {there}; '
            'they must be the same and in the same order'
        )
