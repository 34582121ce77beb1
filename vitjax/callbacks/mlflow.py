"""Records to MLflow (extra `mlflow`)."""

import math
from typing import Any

import jax

from vitjax.callbacks.records import flat, import_extra, named_metrics, read_id, write_id
from vitjax.protocols import Event

_LONGEST = 500  # characters of a parameter that MLflow takes


class MLflow:
    """Writes metrics with their step, and the config, to one run of MLflow, also after a stop.

    Its id is kept in `mlflow.json` in the run's folder.

    Args:
      experiment: of MLflow; made if it is not there.
      tracking_uri: of the server, or a database such as 'sqlite:///mlflow.db'; None: MLFLOW_TRACKING_URI.
    """

    def __init__(self, experiment: str = 'vitjax', tracking_uri: str | None = None):
        self._experiment, self._tracking_uri = experiment, tracking_uri
        self._client: Any = None
        self._run: str | None = None

    def __call__(self, event: Event) -> None:
        if jax.process_index() != 0:
            return
        if self._client is None:
            self._start(event)
        if event.kind in ('log', 'eval'):
            for name, value in named_metrics(event).items():
                if math.isfinite(value):
                    self._client.log_metric(self._run, name, value, step=event.step)
        elif event.kind == 'end':
            self._client.set_terminated(self._run)
            self._client = None

    def _start(self, event: Event) -> None:
        tracking = import_extra('mlflow.tracking')
        self._client = client = tracking.MlflowClient(self._tracking_uri)
        path = event.workdir / 'mlflow.json'
        self._run = read_id(path)
        if self._run is not None:
            client.update_run(self._run, status='RUNNING')
            return
        experiment = client.get_experiment_by_name(self._experiment)
        number = (
            experiment.experiment_id if experiment else client.create_experiment(self._experiment)
        )
        self._run = client.create_run(number, run_name=event.workdir.name).info.run_id
        for key, value in flat(event.config).items():
            client.log_param(self._run, key, str(value)[:_LONGEST])
        write_id(path, self._run)
