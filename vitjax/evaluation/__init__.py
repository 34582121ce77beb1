"""Evaluations that a config names in `evals`."""

from vitjax.evaluation.metrics import Metrics

EVALUATORS = {'metrics': Metrics}
