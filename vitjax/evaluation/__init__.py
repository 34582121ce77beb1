"""Evaluators that a config names in `evals`: callables (event) -> {name: number}."""

from vitjax.evaluation.few_shot import FewShot
from vitjax.evaluation.knn import KNN
from vitjax.evaluation.metrics import Metrics

EVALUATORS = {'few_shot': FewShot, 'knn': KNN, 'metrics': Metrics}
