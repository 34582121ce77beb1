"""Classification by the nearest neighbours among frozen features."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.config import Count, Positive
from vitjax.errors import UserError
from vitjax.evaluation.features import collect_features
from vitjax.protocols import EvaluationEvent

_CHUNK = 1024  # examples that are compared with all training examples at once


@dataclasses.dataclass(frozen=True)
class KNN:
    """k nearest neighbours by cosine similarity, with weighted votes (Wu et al. 2018; Caron et al. 2021).

    A neighbour of similarity s votes for its class with exp(s / temperature).

    Attributes:
      k: neighbours that vote.
      temperature: of their votes.
      train_split: the examples that vote; None for those that the run is trained on, as preprocessed for
        evaluation.
    """

    k: Count = 20
    temperature: Positive = 0.07
    train_split: str | None = None

    def __call__(self, event: EvaluationEvent) -> dict[str, float]:
        """Accuracy on the split, and the number of its examples."""
        train = collect_features(event, self.train_split or event.train_split)
        test = collect_features(event)
        if self.k > len(train.values):
            raise UserError(
                f'kNN: k is {self.k}, but there are {len(train.values)} training examples'
            )
        votes = knn_votes(
            train.values, train.labels, test.values, k=self.k, temperature=self.temperature
        )
        return {
            'accuracy': float((votes.argmax(axis=1) == test.labels).mean()),
            'examples': len(test.labels),
        }


def knn_votes(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    *,
    k: int,
    temperature: float,
) -> np.ndarray:
    """The share of the votes that each class has: float32 [M, K].

    Args:
      train_features: [N, D].
      train_labels: integers [N] below K.
      features: [M, D].
      k: neighbours, at most N.
      temperature: of their votes.
    """
    num_classes = int(train_labels.max()) + 1
    train = _normalised(train_features)
    labels = jnp.asarray(train_labels)
    votes = [
        _votes(
            train,
            labels,
            _normalised(features[start : start + _CHUNK]),
            k,
            temperature,
            num_classes,
        )
        for start in range(0, len(features), _CHUNK)
    ]
    return np.concatenate(votes)


@functools.partial(jax.jit, static_argnames=('k', 'num_classes'))
def _votes(train, labels, features, k, temperature, num_classes):
    similarity = jnp.matmul(features, train.T, precision='highest')  # [M, N]
    nearest, index = jax.lax.top_k(similarity, k)  # [M, k]
    # Less the greatest, which changes no share, so that no exponential overflows.
    weights = jnp.exp((nearest - nearest[:, :1]) / temperature)
    votes = jax.nn.one_hot(labels[index], num_classes) * weights[..., None]  # [M, k, K]
    votes = votes.sum(axis=1)
    return votes / votes.sum(axis=1, keepdims=True)


def _normalised(features: np.ndarray) -> jax.Array:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return jnp.asarray(features / np.maximum(norm, 1e-12))
