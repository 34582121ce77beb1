"""Callbacks that a config names in `callbacks`: callables (event) -> None, or numbers for the records."""

from vitjax.callbacks.mlflow import MLflow
from vitjax.callbacks.predictions import Predictions
from vitjax.callbacks.wandb import WandB

CALLBACKS = {'mlflow': MLflow, 'predictions': Predictions, 'wandb': WandB}
