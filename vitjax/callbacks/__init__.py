"""Callbacks that a config names in `callbacks`; each is a callable (event), see `vitjax.protocols.Event`."""

from vitjax.callbacks.mlflow import MLflow
from vitjax.callbacks.predictions import Predictions
from vitjax.callbacks.wandb import WandB

CALLBACKS = {'mlflow': MLflow, 'predictions': Predictions, 'wandb': WandB}
