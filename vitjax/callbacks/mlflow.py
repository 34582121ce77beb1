"""Metrics of a run, sent to MLflow."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from vitjax.callbacks.tracker import Tracker
from vitjax.errors import UserError, one_line

# What MLflow takes in one request.
_MAX_PARAMS = 100
_MAX_METRICS = 1000

logger = logging.getLogger(__name__)


class MLflow(Tracker):
    """Sends metrics as 'train/loss' or 'test/accuracy', and the config as parameters, to MLflow.

    The server must answer at the first event. If it does not answer later, there is a warning, training
    continues, and the metrics are sent at a later event. MLflow retries for minutes first, see its
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.

    Args:
      experiment: of MLflow; it is created if it does not exist.
      tracking_uri: of a server, such as 'http://localhost:5000', or of a database, such as
        'sqlite:///mlflow.db'; None: MLFLOW_TRACKING_URI, or MLflow's default. The extra `mlflow` installs
        the client of servers (mlflow-skinny); a database needs the full package, pip install mlflow.
      run_name: that MLflow shows; None: the name of the run's folder.
    """

    FILE, LIBRARY = 'mlflow.json', 'mlflow'

    def __init__(
        self,
        experiment: str = 'vitjax',
        tracking_uri: str | None = None,
        run_name: str | None = None,
    ):
        super().__init__()
        self.experiment, self.tracking_uri, self.run_name = experiment, tracking_uri, run_name
        self._client: Any = None
        self._id: str | None = None

    def _open(self, event: Any, run_id: str | None) -> str:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            self._client = MlflowClient(self.tracking_uri)
            self._id = run_id or self._create_run(event)
            if self._client.get_run(self._id).info.lifecycle_stage == 'deleted':
                raise UserError(
                    f'MLflow: run {self._id} of {event.workdir / self.FILE} was deleted; without '
                    'that file a new run is tracked'
                )
            self._client.update_run(self._id, status='RUNNING')
        except MlflowException as error:
            raise UserError(
                f'MLflow: {one_line(error)}; see tracking_uri in config.callbacks.mlflow, and for a '
                'database pip install mlflow'
            ) from error
        return self._id

    def _create_run(self, event: Any) -> str:
        experiment = self._client.get_experiment_by_name(self.experiment)
        if experiment is None:
            experiment_id = self._client.create_experiment(self.experiment)
        else:
            experiment_id = experiment.experiment_id
        name = self.run_name or event.workdir.name
        return self._client.create_run(experiment_id, run_name=name).info.run_id

    def _describe(self, event: Any) -> None:
        """Sends the parameters that the run does not have yet: MLflow lets none be changed."""
        from mlflow.entities import Param

        known = self._client.get_run(self._id).data.params
        params = [Param(k, str(v)) for k, v in _flatten(event.config) if k not in known]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MAX_PARAMS])

    def _send(self, step: int, values: Mapping[str, float]) -> bool:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        try:
            for start in range(0, len(metrics), _MAX_METRICS):
                self._client.log_batch(self._id, metrics=metrics[start : start + _MAX_METRICS])
        except MlflowException as error:
            logger.warning('MLflow did not take the metrics of step %d: %s', step, one_line(error))
            return False
        return True

    def _close(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.set_terminated(self._id)
        except MlflowException as error:
            logger.warning(
                'MLflow could not mark run %s as finished: %s', self._id, one_line(error)
            )


def _flatten(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Nested keys joined by dots, with their values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value
