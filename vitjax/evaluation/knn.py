"""Weighted k-nearest-neighbour classification of frozen features."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.errors import UserError
from vitjax.evaluation.features import collect_features
from vitjax.evaluation.splits import train_split_of

# Similarities that are held at once, 512 MB of float32; one query is compared with all training examples.
_MAX_SIMILARITIES = 2**27
_MAX_QUERIES = 1024


@dataclasses.dataclass(frozen=True)
class KNN:
    """Evaluates frozen features by their nearest neighbours (Caron et al. 2021, section 4.1 and appendix).

    The k training examples of the highest cosine similarity s vote for their classes with weight
    exp(s / temperature) (Wu et al. 2018, section 3.4). The features are `pooled` of the model's
    `features`. They are not augmented: also the training split is preprocessed as for evaluation.

    Attributes:
      k: neighbours that vote, at most the number of training examples.
      temperature: of the votes.
      train_split: the neighbours, in TFDS syntax such as 'train[:10%]'; None: the run's training split.
    """

    k: int = 20
    temperature: float = 0.07
    train_split: str | None = None

    def __post_init__(self):
        if self.k < 1:
            raise UserError(f'k must be at least 1, not {self.k}')
        if not self.temperature > 0:
            raise UserError(f'temperature must be positive, not {self.temperature}')

    def __call__(self, event: Any) -> dict[str, float]:
        """Shares of the split's examples that are classified correctly.

        Returns:
          accuracy and, for more than 5 classes, top5_accuracy; NaN if features are not finite. A class
          without votes is not among the five; classes with equal votes are ranked by index.
        """
        train_split = train_split_of(event, self.train_split)
        train_features, train_labels = collect_features(event, train_split)
        if self.k > len(train_labels):
            raise UserError(
                f'k is {self.k}, but split {train_split!r} has {len(train_labels)} examples'
            )
        features, labels = collect_features(event)
        num_classes = int(max(train_labels.max(), labels.max())) + 1
        within = {'accuracy': 1} | ({'top5_accuracy': 5} if num_classes > 5 else {})
        if not (np.isfinite(train_features).all() and np.isfinite(features).all()):
            return dict.fromkeys(within, math.nan)
        votes = knn_predict(
            train_features,
            train_labels,
            features,
            k=self.k,
            temperature=self.temperature,
            num_classes=num_classes,
        )
        ranks = _ranks(votes, labels)
        return {name: float((ranks < count).mean()) for name, count in within.items()}


def knn_predict(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    *,
    k: int,
    temperature: float,
    num_classes: int,
) -> np.ndarray:
    """The share of the votes for each class: p(c) ~ sum of exp(s_i / temperature) over neighbours of class c.

    Of training examples with equal similarities the first ones are neighbours. A vector of zeros has
    similarity 0 to all. Queries are compared in chunks, so that [M, N] similarities are never held at once.

    Args:
      train_features: [N, D].
      train_labels: integers [N], below `num_classes`.
      features: [M, D], the queries.
      k: neighbours, at most N.
      temperature: positive.
      num_classes: K.

    Returns:
      float32 [M, K]; each row sums to 1.
    """
    if not 1 <= k <= len(train_features):
        raise UserError(f'k must be between 1 and {len(train_features)} training examples, not {k}')
    train = jnp.asarray(_normalise(train_features))
    train_labels = jnp.asarray(train_labels)
    features = _normalise(features)
    size = max(1, min(_MAX_QUERIES, _MAX_SIMILARITIES // len(train), len(features)))
    votes = np.empty((len(features), num_classes), np.float32)
    for start in range(0, len(features), size):
        chunk = features[start : start + size]
        padded = np.pad(chunk, ((0, size - len(chunk)), (0, 0)))  # one shape, compiled once
        found = _votes(train, train_labels, padded, temperature, k=k, num_classes=num_classes)
        votes[start : start + size] = np.asarray(found)[: len(chunk)]
    return votes


@functools.partial(jax.jit, static_argnames=('k', 'num_classes'))
def _votes(train, train_labels, queries, temperature, *, k, num_classes):
    """Normalised [N, D], labels [N], normalised queries [M, D] -> shares of the votes [M, K]."""
    # TF32 or bfloat16 products would choose other neighbours.
    similarities = jnp.matmul(queries, train.T, precision='highest')  # [M, N]
    nearest, indices = jax.lax.top_k(similarities, k)  # [M, k]
    # Relative to the nearest neighbour: the shares are the same, and exp does not overflow.
    weights = jnp.exp((nearest - nearest[:, :1]) / temperature)
    rows = jnp.arange(len(queries))[:, None]
    votes = jnp.zeros((len(queries), num_classes)).at[rows, train_labels[indices]].add(weights)
    return votes / votes.sum(axis=1, keepdims=True)


def _ranks(votes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Classes that come before the true one by their votes [M, K], all K if that has none: [M]."""
    own = votes[np.arange(len(labels)), labels][:, None]  # [M, 1]
    before = (votes == own) & (np.arange(votes.shape[1]) < labels[:, None])  # [M, K]
    ranks = ((votes > own) | before).sum(axis=1)
    return np.where(own[:, 0] > 0, ranks, votes.shape[1])


def _normalise(features: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float32; zeros stay zeros."""
    features = features.astype(np.float32)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norms > 0, norms, 1)
