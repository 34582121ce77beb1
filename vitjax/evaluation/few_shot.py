"""Few-shot linear classification of frozen features, in closed form."""

import dataclasses
from typing import Annotated

import numpy as np

from vitjax.config import Count, Positive, Range
from vitjax.errors import UserError
from vitjax.evaluation.features import collect_features
from vitjax.protocols import EvaluationEvent


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Ridge regression on N examples a class (Dosovitskiy et al. 2021, section 4.1; Kolesnikov et al. 2020).

    Features are standardised by the chosen examples and get a constant one; targets are -1 and 1. There is
    one result for each number of shots and each strength of L2. To report one of them, choose the strength
    on another split.

    Attributes:
      shots: examples a class.
      l2: strengths, added to the diagonal of the Gram matrix of the features.
      seed: of the choice of examples; the first N of a class in a random order that does not depend on N.
      train_split: which the examples are chosen from; None for that which the run is trained on.
    """

    shots: tuple[Count, ...] = (1, 5, 10, 25)
    l2: tuple[Positive, ...] = (2**-6, 1.0, 2**6)
    seed: Annotated[int, Range(low=0)] = 0
    train_split: str | None = None

    def __call__(self, event: EvaluationEvent) -> dict[str, float]:
        """'10shot_l2=1' -> accuracy on the split."""
        train = collect_features(event, self.train_split or event.train_split)
        test = collect_features(event)
        found = {}
        for shots in self.shots:
            chosen = choose_examples(train.labels, shots, self.seed)
            for l2 in self.l2:
                scores = ridge_scores(
                    train.values[chosen], train.labels[chosen], test.values, l2=l2
                )
                accuracy = float((scores.argmax(axis=1) == test.labels).mean())
                found[f'{shots}shot_l2={l2:g}'] = accuracy
        return found | {'examples': len(test.labels)}


def choose_examples(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Indices of so many examples of each class; UserError if a class has fewer."""
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = []
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        if len(of_class) < shots:
            raise UserError(
                f'few-shot: class {label} has {len(of_class)} training examples, fewer than {shots}'
            )
        chosen.append(of_class[:shots])
    return np.concatenate(chosen)


def ridge_scores(
    train_features: np.ndarray, train_labels: np.ndarray, features: np.ndarray, *, l2: float
) -> np.ndarray:
    """Scores of the classes by ridge regression: float64 [M, K].

    The weights W [D + 1, K] minimise |X W - Y|^2 + l2 |W|^2, where the rows of X are the standardised
    features and 1, and Y is 1 for the class of an example and -1 for the others.

    Args:
      train_features: [N, D].
      train_labels: integers [N] below K.
      features: [M, D].
    """
    mean = train_features.mean(axis=0, dtype=np.float64)
    deviation = train_features.std(axis=0, dtype=np.float64)
    deviation = np.where(
        deviation > 1e-8, deviation, 1.0
    )  # a feature that is constant says nothing

    def standardised(x):
        return np.pad((x - mean) / deviation, ((0, 0), (0, 1)), constant_values=1.0)  # [N, D + 1]

    x = standardised(train_features)
    y = 2.0 * np.eye(int(train_labels.max()) + 1)[train_labels] - 1.0  # [N, K]
    if len(x) < x.shape[1]:
        # The same weights by the Gram matrix of the examples, which is the smaller one.
        weights = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(len(x)), y)
    else:
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)
    return standardised(features) @ weights
