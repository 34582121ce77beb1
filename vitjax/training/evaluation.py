"""Metrics of a model over a whole split: every example once, on any number of hosts."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vitjax.errors import Preempted
from vitjax.training.experiment import Experiment
from vitjax.training.prefetching import prefetch
from vitjax.training.sharding import replicated


class Evaluator:
    """Evaluates a model on the evaluation split of an experiment; compiles at the first call."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._step = experiment.eval_step()

    def __call__(
        self, variables: dict[str, Any], should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """Means of the task's metrics, and how many examples were counted (`examples`).

        Raises Preempted as soon as `should_stop()` says so.
        """
        experiment = self._experiment
        batch_size = experiment.local_batch_size(experiment.eval_batch_size)
        batches = experiment.data.eval_batches(
            batch_size, (jax.process_index(), jax.process_count())
        )
        zeros = {name: jnp.zeros(2) for name in (*experiment.task.metric_names, 'examples')}
        with experiment.context():
            sums = jax.device_put(zeros, replicated(experiment.mesh))
            with (
                contextlib.closing(iter(batches)) as iterator,
                contextlib.closing(prefetch(iterator, experiment.mesh)) as ahead,
            ):
                for batch, _ in ahead:
                    if should_stop():
                        raise Preempted
                    sums = self._step(sums, variables, batch)
            quality = experiment.task.quality(experiment.model, variables, experiment.data)
        sums = {name: [float(x) for x in total] for name, total in sums.items()}
        examples = int(sums.pop('examples')[0])
        metrics = {name: total / max(count, 1) for name, (total, count) in sums.items()}
        counts = {'examples': examples}
        if examples < len(experiment.data.evaluation):
            counts['skipped_examples'] = len(experiment.data.evaluation) - examples
        return metrics | quality | counts
