"""The training loop: steps, log, evaluation, checkpoints, and going on after a stop."""

import collections
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import ml_collections
import numpy as np
import optax
from jax.experimental import multihost_utils

import vitjax
from vitjax.checkpoints import Checkpoints, array_shapes, compare_shapes, unreadable
from vitjax.errors import Preempted, RunError, UserError
from vitjax.files import check_place, to_path, write_atomically
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.prefetching import prefetch
from vitjax.training.progress import Progress, parameter_overview
from vitjax.training.records import Records, read_records
from vitjax.training.state import TrainState, join_state, split_state

logger = logging.getLogger(__name__)

# Steps that may wait for the device: enough to keep it busy, few enough to stop soon.
_STEPS_AHEAD = 2


def train(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    should_stop: Callable[[int], bool] = lambda step: False,
) -> dict[str, float]:
    """Trains as the config says, or goes on where the run in `workdir` was stopped.

    Args:
      config: complete, as `read_config` returns it.
      workdir: the run's folder.
      should_stop: asked at each step, with its number; True saves and ends the run.

    Returns:
      The metrics of the last evaluation.

    Raises:
      UserError: the config does not fit together, or not with the checkpoints in `workdir`; or an
        example cannot be used, before which the state is saved (where there is one process).
      RunError: a loss that is not finite, or a full disk.
      Preempted: `should_stop` said so; the state is saved.
    """
    return _Run(config, to_path(workdir), should_stop).finish()


class _Run:
    """A run from its start, or from where it was stopped, to its end."""

    def __init__(
        self, config: ml_collections.ConfigDict, workdir: Path, should_stop: Callable[[int], bool]
    ):
        self.config, self.workdir, self.should_stop = config, workdir, should_stop
        self.experiment = experiment = Experiment(config, run=workdir)
        for line in changes(workdir / 'config.json', config):
            logger.warning('changed since this run was started: %s', line)
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
            experiment.data.save(workdir)
            self.records = Records(workdir, self.step, config.log.tensorboard)
        self.progress = Progress(experiment.lengths.total, self.step)
        self.evaluate = Evaluator(experiment)

    def finish(self) -> dict[str, float]:
        """Runs to the last step; returns the metrics of the evaluation there."""
        lengths = self.experiment.lengths
        try:
            self._introduce()
            # A run that was stopped between a step and its evaluation still owes that evaluation.
            if self.resumed and self._is_due(lengths.eval) and self.metrics is None:
                self._evaluate()
            train_step = self.experiment.train_step()
            unfinished = collections.deque()
            self._restart_clock()
            with self.experiment.context():
                while self.step < lengths.total:
                    self.state, self.values = train_step(self.state, self._next_batch())
                    self.step += 1
                    unfinished.append(self.values['loss'])
                    if len(unfinished) > _STEPS_AHEAD:
                        unfinished.popleft().block_until_ready()
                    self._after_step()
            if self.metrics is None:  # a run that was longer before is already past its end
                self._evaluate()
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
            self.checkpoints.close()
        return self.metrics

    def _stop(self) -> None:
        self._save()
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
        if self._is_due(lengths.eval):
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
        if self.records:
            self.records.write(self.step, 'train', values)
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
        return {name: values[name] for name in self.experiment.task.metric_names}

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
        # Several hosts agree on a stop between steps, and a checkpoint that may be the best needs
        # its metrics: then an evaluation is not cut short.
        may_stop = jax.process_count() == 1 and not self.config.checkpoint.best
        self.metrics = self.evaluate(
            self.state.variables, lambda: may_stop and self.should_stop(self.step)
        )
        if self.records:
            self.records.write(self.step, self.config.data.eval_split, self.metrics)
        shown = '  '.join(f'{name} {value:.4g}' for name, value in self.metrics.items())
        self.progress.say(f'step {self.step}: {self.config.data.eval_split}  {shown}')
        self._restart_clock()

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
        """The metrics of an evaluation that was recorded at this step."""
        path = self.workdir / 'metrics.jsonl'
        for row in read_records(path) if path.exists() else ():
            # A row of the training split has no such count, an evaluation on that split has.
            evaluated = row['split'] == self.config.data.eval_split and 'examples' in row
            if evaluated and row['step'] == self.step:
                return {k: v for k, v in row.items() if k not in ('step', 'split')}
        return None

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
    return [
        f'config.{key}: {old.get(key)!r} -> {new.get(key)!r}'
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


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
