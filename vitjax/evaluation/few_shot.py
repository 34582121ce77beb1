"""Few-shot linear classification of frozen features, by ridge regression in closed form."""

import dataclasses
import math
from typing import Any

import numpy as np

from vitjax.errors import UserError
from vitjax.evaluation.features import collect_features
from vitjax.evaluation.splits import train_split_of

_BIAS = 100.0  # the constant feature; large, so that L2 hardly shrinks the bias
_EPSILON = 1e-5  # added to the features' standard deviations


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Evaluates frozen features by a linear classifier that is fitted to N examples a class.

    The convention is that of big_vision, `evaluators/fewshot_lsr.py` (Dosovitskiy et al. 2021, section 4.1;
    Kolesnikov et al. 2020): ridge regression from standardised features to targets of 1 for the class and -1
    for the others; see `fit_ridge`. Draws are nested: the 5 examples of a class are among its 10.

    The strength of L2 is not chosen here: chosen on the split that is evaluated, it makes the accuracy too
    high. One value, as in big_vision, gives one accuracy for each number of shots, '10shot'; several give one
    for each pair, '10shot_l2_1024'. To choose among several, evaluate on a part of the training split
    that `train_split` leaves out.

    Attributes:
      shots: examples a class, N.
      l2: strengths of L2 regularisation, all positive.
      seeds: draws of the examples, with the seeds 0, 1, ...; the accuracies are means over the draws.
      train_split: the examples to draw from, in TFDS syntax; None: the run's training split. A part such as
        'train[:10%]' is read sooner.
    """

    shots: tuple[int, ...] = (1, 5, 10, 25)
    l2: tuple[float, ...] = (2.0**10,)
    seeds: int = 3
    train_split: str | None = None

    def __post_init__(self):
        if not self.shots or min(self.shots) < 1:
            raise UserError(f'shots must be numbers of at least 1, not {self.shots}')
        if not self.l2 or not min(self.l2) > 0:
            raise UserError(f'l2 must be positive numbers, not {self.l2}')
        names = [self._name(shots, l2) for shots in self.shots for l2 in self.l2]
        if len(set(names)) < len(names):
            raise UserError(f'shots and l2 must not repeat: {self.shots}, {self.l2}')
        if self.seeds < 1:
            raise UserError(f'seeds must be at least 1, not {self.seeds}')

    def __call__(self, event: Any) -> dict[str, float]:
        """Mean accuracy for each number of shots and each strength of L2.

        NaN if features are not finite. Raises UserError if a class has too few examples to draw from.
        """
        train_split = train_split_of(event, self.train_split)
        train_features, train_labels = collect_features(event, train_split)
        features, labels = collect_features(event)
        num_classes = int(max(train_labels.max(), labels.max())) + 1
        self._check_classes(train_labels, labels, train_split, event.experiment.data.labels)
        finite = np.isfinite(train_features).all() and np.isfinite(features).all()
        accuracies = {self._name(shots, l2): [] for shots in self.shots for l2 in self.l2}
        for seed in range(self.seeds):
            for shots in self.shots:
                chosen = draw_shots(train_labels, shots, seed)
                for l2 in self.l2:
                    accuracy = math.nan
                    if finite:
                        kernel, bias = fit_ridge(
                            train_features[chosen], train_labels[chosen], l2, num_classes
                        )
                        predicted = (features @ kernel + bias).argmax(axis=1)  # in float64
                        accuracy = np.mean(predicted == labels)
                    accuracies[self._name(shots, l2)].append(accuracy)
        return {name: float(np.mean(values)) for name, values in accuracies.items()}

    def _name(self, shots: int, l2: float) -> str:
        return f'{shots}shot' if len(self.l2) == 1 else f'{shots}shot_l2_{l2:g}'

    def _check_classes(self, train_labels, labels, train_split, names) -> None:
        """UserError if a class of either split has fewer examples to draw from than the most shots."""
        for label in np.union1d(train_labels, labels):
            count, most = int((train_labels == label).sum()), max(self.shots)
            if count < most:
                name = repr(names[label]) if names and label < len(names) else label
                raise UserError(
                    f'class {name} has {count} examples in split {train_split!r}, fewer than '
                    f'{most} shots; lower shots, or choose another train_split'
                )


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Indices of `shots` random examples of each class that occurs, class by class.

    Fewer shots with the same seed are a part of more. A class that has fewer examples gives all.
    """
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.concatenate([indices[:shots] for indices in classes])


def fit_ridge(
    features: np.ndarray, labels: np.ndarray, l2: float, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The linear classifier W of least ||X W - Y||^2 + l2 ||W||^2, solved in float64.

    X is the features, less their means and divided by their standard deviations + 1e-5, with a further column
    of 100 for the bias; Y is 1 for the class of an example and -1 for the others.

    Args:
      features: [N, D].
      labels: integers [N], below `num_classes`.
      l2: positive.
      num_classes: K.

    Returns:
      kernel [D, K] and bias [K], float64, which take features as they are: scores = features @ kernel + bias.
    """
    features = features.astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0) + _EPSILON
    x = np.pad((features - mean) / scale, ((0, 0), (0, 1)), constant_values=_BIAS)  # [N, D + 1]
    y = np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)  # [N, K]
    if len(x) < x.shape[1]:  # the smaller of the two systems: W = X^T (X X^T + l2 I)^-1 Y
        weights = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(len(x)), y)
    else:
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)
    kernel = weights[:-1] / scale[:, None]
    bias = _BIAS * weights[-1] - mean @ kernel
    return kernel, bias
