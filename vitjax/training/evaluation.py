"""Evaluation of a model: the task's metrics over a split, and the entries of `config.evals`."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vitjax import registry
from vitjax.config import in_steps
from vitjax.errors import Preempted, UserError, noting, unknown
from vitjax.protocols import EvaluationEvent, Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.prefetching import prefetch
from vitjax.training.sharding import replicated


class SplitEvaluator:
    """The metrics of the task of an experiment over a split; compiles at the first call.

    Args:
      experiment: of the model.
      data: whose evaluation split it is; None for the experiment's own.
    """

    def __init__(self, experiment: Experiment, data: Any = None):
        self._experiment, self._data = experiment, data or experiment.data
        self._step = experiment.eval_step(self._data)

    def __call__(
        self, variables: Mapping[str, Any], should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, float]:
        """Means of the task's metrics, and how many examples were counted (`examples`).

        Raises Preempted as soon as `should_stop()` says so.
        """
        experiment, sums = self._experiment, None
        names = (*experiment.batch_metrics, 'examples')
        with experiment.context():
            zeros = {name: jnp.zeros(2) for name in names}
            sums = jax.device_put(zeros, replicated(experiment.mesh))
            for batch in travelling_batches(experiment, self._data):
                if should_stop():
                    raise Preempted
                sums = self._step(sums, variables, batch)
            more = experiment.task.evaluate(experiment.model, variables, self._data)
        sums = {name: [float(x) for x in total] for name, total in sums.items()}
        examples = int(sums.pop('examples')[0])
        metrics = {name: total / max(count, 1) for name, (total, count) in sums.items()}
        counts = {'examples': examples}
        if examples < len(self._data.evaluation):
            counts['skipped_examples'] = len(self._data.evaluation) - examples
        return metrics | more | counts


def travelling_batches(experiment: Experiment, data: Any) -> Iterator[dict[str, jax.Array]]:
    """The batches of an evaluation split, each example once, over all devices as they travel."""
    size = experiment.local_batch_size(experiment.eval_batch_size)
    batches = data.eval_batches(size, (jax.process_index(), jax.process_count()))
    with (
        contextlib.closing(iter(batches)) as iterator,
        contextlib.closing(prefetch(iterator, experiment.mesh)) as ahead,
    ):
        for batch, _ in ahead:
            yield batch


class Batches:
    """The batches of a split as the model takes them; called with another split, those of that one."""

    def __init__(
        self, experiment: Experiment, split: str, changes: Mapping[str, Any] | None, steps: dict
    ):
        self._experiment, self._split, self._changes = experiment, split, changes
        self._steps = steps  # data -> jitted `on_device`, kept from evaluation to evaluation

    def __call__(self, split: str | None = None) -> 'Batches':
        return Batches(self._experiment, split or self._split, self._changes, self._steps)

    @property
    def data(self) -> Any:
        """The data of the split."""
        return self._experiment.open_data(self._split, self._changes)

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        data = self.data
        if id(data) not in self._steps:
            self._steps[id(data)] = jax.jit(data.on_device)
        with self._experiment.context():
            for batch in travelling_batches(self._experiment, data):
                yield self._steps[id(data)](batch)


class NamedEvaluation:
    """An entry of `config.evals`, made once.

    Args:
      name: of the entry.
      entry: its keys; `name` may also be a callable (event) -> {name: number}.
      experiment: of the model.
      every: steps from one to the next; None for at the end only.
    """

    def __init__(
        self, name: str, entry: Mapping[str, Any], experiment: Experiment, every: int | None
    ):
        self.name, self.every = name, every
        self._experiment = experiment
        self._split = entry.get('split') or experiment.eval_split
        common = ('name', 'every', 'split', 'data')
        keys = {key: value for key, value in entry.items() if key not in common}
        try:
            self._evaluator: Evaluator = registry.bind('evaluator', entry.get('name') or name, keys)
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f'config.evals.{name}: {error}') from error
        self._changes, self._steps = entry.get('data'), {}

    @functools.cached_property
    def _of_split(self) -> SplitEvaluator:
        data = self._experiment.open_data(self._split, self._changes)
        return SplitEvaluator(self._experiment, data)

    def __call__(self, step: int, variables: Mapping[str, Any]) -> dict[str, float]:
        """What the evaluator measures; UserError unless that is {name: number}."""
        event = EvaluationEvent(
            step=step,
            experiment=self._experiment,
            variables=variables,
            split=self._split,
            train_split=self._experiment.train_split,
            batches=Batches(self._experiment, self._split, self._changes, self._steps),
            evaluate=lambda: self._of_split(variables),
        )
        with noting(f'config.evals.{self.name}'):
            found = self._evaluator(event)
        if not isinstance(found, Mapping):
            raise UserError(
                f'config.evals.{self.name} returned {type(found).__name__}, not {{name: number}}'
            )
        return numbers(found, f'config.evals.{self.name}')


def numbers(values: Mapping[str, Any], where: str) -> dict[str, float]:
    """Plain numbers of scalars of any library; UserError for what is none."""
    plain = {}
    for name, value in values.items():
        if name in ('step', 'split'):
            raise UserError(f'{where}: {name!r} is a name that every record has; call it otherwise')
        try:
            plain[str(name)] = value if isinstance(value, int) else float(value)
        except (TypeError, ValueError) as error:
            raise UserError(f'{where}: {name} is {value!r}, not a number') from error
    return plain


def named_evaluations(
    entries: Mapping[str, Mapping[str, Any]],
    experiment: Experiment,
    batch_size: int = 1,
    only: tuple[str, ...] | None = None,
) -> list[NamedEvaluation]:
    """The entries of `config.evals`.

    Args:
      entries: name -> keys.
      experiment: of the model; where it trains, periods are in its epochs.
      batch_size: of training, of which periods in examples are counted.
      only: the entries that are wanted; None for all.
    """
    for name in only or ():
        if name not in entries:
            raise unknown('entry of config.evals', name, entries)
    found = []
    for name, entry in entries.items():
        if only is not None and name not in only:
            continue
        every = None
        if experiment.training is not None:
            epoch = (
                None
                if not hasattr(experiment.data.train, '__len__')
                else len(experiment.data.train)
            )
            every = in_steps(
                entry.get('every'),
                batch_size=batch_size,
                epoch=epoch,
                key=f'config.evals.{name}.every',
            )
            every = experiment.lengths.eval if every is None else every
            if every == 0:
                raise UserError(f'config.evals.{name}.every must be at least one step')
        found.append(NamedEvaluation(name, entry, experiment, every))
    return found
