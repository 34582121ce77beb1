"""The training loop: steps, log, evaluation, checkpoints, and going on after a stop."""

import collections
import dataclasses
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import ml_collections
import numpy as np
import optax
from flax import linen as nn
from jax.experimental import multihost_utils

import vitjax
from vitjax import registry
from vitjax.checkpoints import Checkpoints, array_shapes, compare_shapes, unreadable
from vitjax.config import base_config, complete, import_paths, read_config
from vitjax.errors import Preempted, RunError, UserError, noting, unknown
from vitjax.files import check_place, read_json, to_path, write_atomically
from vitjax.models.contract import write_inputs
from vitjax.protocols import Callback, Evaluator, Event
from vitjax.tasks.task import Task
from vitjax.training.build import Given, build
from vitjax.training.evaluation import SplitEvaluator, named_evaluations, numbers
from vitjax.training.experiment import Experiment
from vitjax.training.prefetching import prefetch
from vitjax.training.profiling import Profiler
from vitjax.training.progress import Progress, parameter_overview
from vitjax.training.records import Records, read_records
from vitjax.training.state import TrainState, join_state, split_state

logger = logging.getLogger(__name__)

# Steps that may wait for the device: enough to keep it busy, few enough to stop soon.
_STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run leaves in memory.

    Attributes:
      metrics: of the last evaluation; those of an entry of `config.evals` are called 'NAME/METRIC'.
      variables: what `experiment.model.apply` takes; the averaged ones where there are any.
      state: the train state.
      experiment: model, task, data and mesh.
    """

    metrics: dict[str, float]
    variables: dict[str, Any]
    state: TrainState
    experiment: Experiment


def train(
    config: str | Path | ml_collections.ConfigDict,
    workdir: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    task: Task | None = None,
    data: Any = None,
    optimizer: Any = None,
    evals: Mapping[str, Evaluator | Mapping[str, Any]] | None = None,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[int], bool] | None = None,
) -> Result:
    """Trains as a config says, or goes on where the run in `workdir` was stopped.

    Objects that are given stand in for the named parts of the config. A run with any of them says so in its
    `code.json`, and goes on when it is given them again.

    Args:
      config: a recipe, as `read_config` takes it.
      workdir: the run's folder.
      overrides: dotted key -> value or text, as {'optimizer.learning_rate': 3e-4}.
      model: a Flax Linen module.
      task: a `vitjax.Task`.
      data: {split: source}, or a function that returns it.
      optimizer: a complete optax transformation, or a function that is given the schedule and returns one.
      evals: name -> callable (event) -> {name: number}, or keys as in `config.evals`; besides those.
      callbacks: callables (event), besides those of `config.callbacks`.
      should_stop: asked at each step, with its number; True saves and ends the run.

    Returns:
      The `Result`.

    Raises:
      UserError: the config does not fit together, or not with the checkpoints in `workdir`; or an
        example cannot be used, before which the state is saved (where there is one process).
      RunError: a loss that is not finite, or a full disk.
      Preempted: `should_stop` said so; the state is saved.
    """
    given = Given(model, task, data, optimizer)
    given.check_overrides(overrides or {})
    config = read_config(config, overrides)
    if not isinstance(evals or {}, Mapping):
        raise UserError(f'evals must be {{name: callable}}, not {type(evals).__name__}')
    if isinstance(callbacks, Mapping) or not all(map(_is_callback, callbacks)):
        raise UserError('callbacks must be a list of callables (event), not of classes')
    entries = {}
    for name, entry in (evals or {}).items():
        entries[name] = {'name': entry} if callable(entry) else dict(entry)
    run = _Run(
        config, to_path(workdir), should_stop or (lambda step: False), given, entries, callbacks
    )
    return run.finish()


def _name_of(callback: Callback) -> str:
    return getattr(callback, '__name__', type(callback).__name__)


def _described(given: Given) -> dict[str, str]:
    """The objects whose text says what they are: part -> one line."""
    parts = {'model': given.model, 'task': given.task}
    return {
        part: re.sub(r' at 0x[0-9a-f]+', '', ' '.join(repr(value).split()))
        for part, value in parts.items()
        if value is not None
    }


def _changed_objects(code: Path, given: Given) -> Iterator[str]:
    """What is known of the objects with which a run goes on, compared with those it began with."""
    if not code.is_file() or not given.names:
        return
    stored = read_json(code).get('described', {})
    for part, text in _described(given).items():
        if part in stored and stored[part] != text:
            yield f'changed since this run was started: {part} was {stored[part]}, is {text}'
    if unknown_parts := [part for part in given.names if part in ('data', 'optimizer')]:
        yield (
            f'{" and ".join(unknown_parts)} given as objects: it is not checked that they are those '
            'with which this run was started'
        )


def _is_callback(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


class _Run:
    """A run from its start, or from where it was stopped, to its end."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: Path,
        should_stop: Callable[[int], bool],
        given: Given,
        evals: Mapping[str, Mapping[str, Any]],
        callbacks: Sequence[Callback],
    ):
        self.workdir, self.should_stop = workdir, should_stop
        if given.names:
            config = complete(ml_collections.ConfigDict(given.without_names(config)))
        config, self.experiment = build(config, run=workdir, given=given, evals=evals)
        self.config, experiment = config, self.experiment
        entries = config.evals.to_dict() | dict(evals)
        self.evaluations = named_evaluations(entries, experiment, config.batch_size)
        self.callbacks = make_callbacks(config.callbacks.to_dict())
        self.callbacks += [(_name_of(callback), callback) for callback in callbacks]
        self.profiler = Profiler(workdir / 'profile', config.log.profile)
        for line in changes(workdir / 'config.json', config):
            logger.warning('changed since this run was started: %s', line)
        for line in _changed_objects(workdir / 'code.json', given):
            logger.warning('%s', line)
        host = (jax.process_index(), jax.process_count())
        batch_size = experiment.local_batch_size(config.batch_size)
        # Before there is a folder, so that a config that they refuse leaves none.
        check_place(workdir)
        self.batches = iter(experiment.data.train_batches(batch_size, host))
        is_new = not (workdir / 'checkpoints').exists()
        start = experiment.starting_variables() if is_new else None
        kept = config.checkpoint
        self.checkpoints = Checkpoints(
            workdir / 'checkpoints', keep=kept.keep, best=kept.best, keep_best=kept.keep_best
        )
        self.state = self._restore()
        self.resumed = self.state is not None
        if not self.resumed:
            self.state = experiment.init_state(start if is_new else experiment.starting_variables())
        self.step = int(self.state.step)
        self.was_finished = self.resumed and self.step >= experiment.lengths.total
        self.values: dict[str, jax.Array] = {}  # of the newest step, on the devices
        self.skipped_updates = int(self.state.skipped_updates)  # when last logged
        self.metrics = self._recorded_metrics() if self.resumed else None
        self.ahead = prefetch(self.batches, experiment.mesh)
        self.read: dict[str, Any] = {}  # where the batches are after the newest step's
        self.waited = 0.0  # seconds, for batches
        self.records = None
        if jax.process_index() == 0:
            stored = workdir / 'config.json'
            # That of a finished run says how it was, not what is asked for now.
            if not (self.was_finished and stored.exists()):
                write_atomically(stored, config.to_json(indent=2) + '\n')
                self._write_code(given, evals)
                write_inputs(workdir, experiment.inputs())
            experiment.data.save(workdir)
            self.records = Records(workdir, self.step, config.log.tensorboard)
        self.progress = Progress(experiment.lengths.total, self.step)
        self.evaluate = SplitEvaluator(experiment)

    def _write_code(self, given: Given, evals: Mapping[str, Mapping[str, Any]]) -> None:
        """Where the code is that is not vitjax's, if the run has any."""
        objects = [*given.names, *(f'evals.{name}' for name in evals)]
        code = registry.describe_code(import_paths(self.config))
        code |= {'objects': objects, 'described': _described(given)}
        path = self.workdir / 'code.json'
        if code['names'] or objects or path.exists():
            write_atomically(path, json.dumps(code, indent=2) + '\n')

    def finish(self) -> Result:
        """Runs to the last step."""
        lengths = self.experiment.lengths
        try:
            self._introduce()
            # A run that was stopped between a step and its evaluation still owes that evaluation.
            due = [lengths.eval, *(evaluation.every for evaluation in self.evaluations)]
            if self.resumed and any(map(self._is_due, due)) and self.metrics is None:
                self._evaluate()
            train_step = self.experiment.train_step()
            unfinished = collections.deque()
            self._restart_clock()
            with self.experiment.context():
                while self.step < lengths.total:
                    self.profiler.before(self.step + 1)
                    self.state, self.values = train_step(self.state, self._next_batch())
                    self.step += 1
                    unfinished.append(self.values['loss'])
                    if len(unfinished) > _STEPS_AHEAD:
                        unfinished.popleft().block_until_ready()
                    self._after_step()
            if self.metrics is None:  # a run that was longer before is already past its end
                self._evaluate()
            self._call_back('end', self.config.data.eval_split, self.metrics)
            self.checkpoints.wait()
        except Preempted:
            self._stop()
            raise
        except UserError:
            # Of several hosts one alone may have met the example, and saving takes all.
            if jax.process_count() == 1 and self.values:
                self._stop()
            raise
        finally:
            self.ahead.close()
            self.batches.close()
            self.progress.close()
            if self.records:
                self.records.close()
            self.profiler.close()
            self.checkpoints.close()
        return Result(self.metrics, self.state.variables, self.state, self.experiment)

    def _stop(self) -> None:
        self._save()
        self._call_back('end', self.config.data.eval_split, self.metrics or {})
        self.checkpoints.wait()
        self.progress.say(f'stopped at step {self.step} and saved; the same command goes on')

    def _next_batch(self) -> dict[str, jax.Array]:
        start = time.monotonic()
        batch, self.read = next(self.ahead)
        self.waited += time.monotonic() - start
        return batch

    def _after_step(self) -> None:
        """What is due at this step: log, evaluation, checkpoint, in this order, and a wish to stop."""
        lengths = self.experiment.lengths
        self.metrics = None
        logged = self._log() if self._is_due(lengths.log) else {}
        self.progress.update(self.step, logged, self.config.batch_size, self.waited)
        self.profiler.after(self.step, self.values)
        if self._is_due(lengths.eval) or any(self._is_due(e.every) for e in self.evaluations):
            self._evaluate()
        if self._is_due(lengths.checkpoint) or (self.metrics and self.config.checkpoint.best):
            self._save()
        if self.should_stop(self.step):
            raise Preempted

    def _is_due(self, every: int | None) -> bool:
        """Whether something falls on this step; everything does on the last one."""
        if self.step == self.experiment.lengths.total:
            return True
        return every is not None and self.step % every == 0

    def _log(self) -> dict[str, float]:
        """Records the means since the last log; returns what a person wants to see of them."""
        values = self._fetch()
        del values['first_nonfinite']
        if not self.config.data.skip_corrupt:
            values.pop('skipped_examples')
        if self.config.optimizer.nonfinite == 'stop':
            values.pop('skipped_updates')
        elif values['skipped_updates'] > self.skipped_updates:
            more = values['skipped_updates'] - self.skipped_updates
            logger.warning(
                'left out %d updates that were not finite until step %d', more, self.step
            )
            self.skipped_updates = values['skipped_updates']
        self._record('log', 'train', values)
        if self.records:
            clock, step, waited = self.clock
            passed = max(time.monotonic() - clock, 1e-9)
            pace = (self.step - step) / passed
            self.records.write_speed(
                self.step,
                {
                    'steps_per_second': pace,
                    'examples_per_second': pace * self.config.batch_size,
                    'waiting_for_input': (self.waited - waited) / passed,
                },
            )
        self._restart_clock()
        return {name: values[name] for name in self.experiment.metric_names}

    def _fetch(self) -> dict[str, float]:
        """The newest values as numbers; RunError if a loss or gradient was not finite."""
        values = {name: value.item() for name, value in jax.device_get(self.values).items()}
        if values['first_nonfinite'] >= 0 and self.config.optimizer.nonfinite == 'stop':
            steps = self.checkpoints.steps()
            good = self.checkpoints.folder / str(steps[-1]) if steps else 'none yet'
            raise RunError(
                f'loss or gradient not finite at step {values["first_nonfinite"]}; '
                f'last good checkpoint: {good}; lower config.optimizer.learning_rate, '
                f"or set config.optimizer.nonfinite='skip'"
            )
        return values

    def _evaluate(self) -> None:
        """Runs the evaluations that are due, that of the task first."""
        # Several hosts agree on a stop between steps, and a checkpoint that may be the best needs
        # its metrics: then an evaluation is not cut short.
        may_stop = jax.process_count() == 1 and not self.config.checkpoint.best
        variables, split = self.state.variables, self.config.data.eval_split
        self.metrics = {}
        if self._is_due(self.experiment.lengths.eval):
            found = self.evaluate(variables, lambda: may_stop and self.should_stop(self.step))
            self.metrics = self._record('eval', split, found)
            self._show(split, self.metrics)
        for evaluation in self.evaluations:
            if self._is_due(evaluation.every):
                found = evaluation(self.step, variables)
                found = self._record('eval', evaluation.name, found)
                self._show(evaluation.name, found)
                self.metrics |= {f'{evaluation.name}/{key}': x for key, x in found.items()}
        self._check_best()
        self._restart_clock()

    def _check_best(self) -> None:
        """UserError if an evaluation that is to rank checkpoints does not measure what it should."""
        best = (self.config.checkpoint.best or '').removeprefix('-')
        entry, slash, _ = best.partition('/')
        if slash and best not in self.metrics:
            known = [name for name in self.metrics if name.startswith(f'{entry}/')]
            if known:
                raise unknown('metric', best, known)

    def _show(self, name: str, metrics: Mapping[str, float]) -> None:
        if bad := [key for key, value in metrics.items() if not math.isfinite(value)]:
            logger.warning('step %d: %s of %s is not finite', self.step, ', '.join(bad), name)
        shown = '  '.join(f'{key} {value:.4g}' for key, value in metrics.items())
        self.progress.say(f'step {self.step}: {name}  {shown}')

    def _record(self, kind: str, name: str, values: Mapping[str, float]) -> dict[str, float]:
        """Writes a record, with what callbacks add to it; returns it."""
        record = dict(values) | self._call_back(kind, name, values)
        if self.records:
            self.records.write(self.step, name, record)
        return record

    def _call_back(self, kind: str, name: str, metrics: Mapping[str, float]) -> dict[str, float]:
        """Calls the callbacks; returns what they add to the record."""
        if not self.callbacks:
            return {}
        event = Event(
            *(kind, self.step, name, metrics, self.state.variables, self.experiment),
            *(self.config.to_dict(), self.workdir),
        )
        added = {}
        for callback_name, callback in self.callbacks:
            with noting(f'config.callbacks.{callback_name}'):
                returned = callback(event) or {}
            if not isinstance(returned, Mapping):
                raise UserError(
                    f'config.callbacks.{callback_name} returned {type(returned).__name__}, not '
                    '{name: number} or None'
                )
            found = numbers(returned, 'a callback')
            if taken := (found.keys() & (metrics.keys() | added.keys())):
                raise UserError(f'a callback returned {min(taken)!r}, which is measured already')
            added |= found
        return added

    def _save(self) -> None:
        """Saves this step, unless it is saved or is where the run started."""
        if self.step in self.checkpoints.steps() or not self.values:
            return
        self._fetch()  # a state after a loss that is not finite is not worth keeping
        if self.records:
            self.records.sync()
        model, training = split_state(self.state)
        self.checkpoints.save(
            self.step,
            model=model,
            training=training,
            data=self.read,
            meta={'config': json.loads(self.config.to_json()), 'versions': _versions()},
            metrics=self.metrics,
        )
        added = self._call_back('checkpoint', 'checkpoint', self.metrics or {})
        if added and self.records:
            self.records.write(self.step, 'checkpoint', added)
        self._restart_clock()

    def _restore(self) -> TrainState | None:
        """The state of the newest checkpoint that can be read; None if there is none at all."""
        model, training = split_state(self.experiment.abstract_state)
        passed_over = []
        for step in reversed(self.checkpoints.steps()):
            parts, failure = None, None
            place = self.checkpoints.folder / str(step)
            try:
                for item, tree in (('model', model), ('training', training)):
                    stored = self.checkpoints.shapes(step, item)
                    compare_shapes(place / item, stored, array_shapes(tree))
                parts = self.checkpoints.restore(step, model=model, training=training)
            except UserError:
                raise
            except Exception as error:  # whatever Orbax and TensorStore raise on a damaged file
                failure = unreadable(place, error)
            if not _all_hosts(parts is not None):
                failure = failure or f'{place} cannot be read on another host'
                logger.warning('%s; going back to the one before', failure)
                passed_over.append(step)
                continue
            for damaged in passed_over:
                self.checkpoints.discard(damaged)
            *state, data, meta = parts
            self.batches.set_state(data)
            for name, version in _versions().items():
                if version != meta['versions'].get(name):
                    logger.warning(
                        'saved with %s %s, going on with %s: results may differ in the last bits',
                        *(name, meta['versions'].get(name), version),
                    )
            return join_state(self.experiment.abstract_state, *state)
        if passed_over:
            raise RunError(f'{failure}; no older one is left; to start anew, take another workdir')
        return None

    def _recorded_metrics(self) -> dict[str, float] | None:
        """The metrics of the evaluations that were recorded at this step; None if one is missing."""
        path = self.workdir / 'metrics.jsonl'
        rows = [r for r in read_records(path) if r['step'] == self.step] if path.exists() else []
        due = self._is_due(self.experiment.lengths.eval)
        # A row of the training split has no such count, an evaluation on that split has.
        split = self.config.data.eval_split
        found = {r['split']: r for r in rows if r['split'] == split and 'examples' in r}
        names = {
            evaluation.name for evaluation in self.evaluations if self._is_due(evaluation.every)
        }
        found |= {r['split']: r for r in rows if r['split'] in names}
        if not found.keys() >= names | ({split} if due else set()) or not found:
            return None
        metrics = {}
        for name, row in found.items():
            prefix = '' if name == split else f'{name}/'
            metrics |= {f'{prefix}{k}': v for k, v in row.items() if k not in ('step', 'split')}
        return metrics

    def _introduce(self) -> None:
        device = jax.devices()[0]
        if self.was_finished:
            self.progress.say(f'finished at step {self.step} in {self.workdir}')
        elif self.resumed:
            self.progress.say(f'going on at step {self.step} in {self.workdir}')
        else:
            self.progress.say(parameter_overview(self.state.params))
        mesh = ' x '.join(f'{name} {size}' for name, size in self.experiment.mesh.shape.items())
        self.progress.say(f'{jax.device_count()} x {device.device_kind}; mesh {mesh}')

    def _restart_clock(self) -> None:
        self.clock = (time.monotonic(), self.step, self.waited)


def changes(path: Path, config: ml_collections.ConfigDict) -> list[str]:
    """What differs between a stored config and this one, a line a key; nothing if none is stored."""
    if not path.exists():
        return []
    try:
        old = _flat(json.loads(path.read_text()))
    except ValueError:
        return [f'{path} cannot be read']
    new = _flat(json.loads(config.to_json()))
    # Keys that came after the run was started have had their default.
    old = _flat(json.loads(base_config().to_json())) | {'augment.name': 'standard'} | old
    return [
        f'config.{key}: {old.get(key)!r} -> {new.get(key)!r}'
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def make_callbacks(entries: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Callback]]:
    """The callbacks of `config.callbacks`, each with the name of its entry."""
    made = []
    for name, entry in entries.items():
        keys = {key: value for key, value in entry.items() if key != 'name'}
        try:
            made.append((name, registry.bind('callback', entry.get('name') or name, keys)))
        except (TypeError, ValueError) as error:
            raise UserError(f'config.callbacks.{name}: {error}') from error
    return made


def _versions() -> dict[str, str]:
    """What computes a run: name -> version."""
    return {module.__name__: module.__version__ for module in (vitjax, flax, jax, optax)}


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat


def _all_hosts(good: bool) -> bool:
    """Whether something is so on every host."""
    return bool(np.all(multihost_utils.process_allgather(np.array(good))))
