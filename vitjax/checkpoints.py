"""Checkpoints on disk or in a bucket; the only file that knows Orbax.

A checkpoint is a folder named by its step, with the items `model` (what later use needs), `training`
(what only a resumed run needs), `data` (the input iterator's state) and `meta` (config, versions).
Orbax writes to a temporary folder and renames it, or in a bucket, which cannot rename at one stroke, puts
a last object that says that all is there: a killed run leaves no half checkpoint behind.
"""

import contextlib
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from vitjax.errors import RunError, UserError, one_line
from vitjax.files import is_local, to_path

# Orbax logs every step, and logs each error before it raises it.
for _name in ('absl', 'asyncio'):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: made if it does not exist.
      keep: number of newest checkpoints that are kept.
      best: name of a metric whose best `keep_best` checkpoints stay too; '-NAME' if less is better.
    """

    def __init__(
        self, folder: str | Path, *, keep: int = 1, best: str | None = None, keep_best: int = 1
    ):
        self.folder = _absolute(folder)
        policies = [checkpoint_managers.LatestN(keep)]
        if best:
            policies.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda metrics: _score(metrics, best),
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            # Without it the metrics of a checkpoint would be neither stored nor read again.
            best_fn=(lambda metrics: _score(metrics, best)) if best else None,
            cleanup_tmp_directories=True,
        )
        self._open()

    def _open(self) -> None:
        # Orbax reads the metrics of all checkpoints, and nothing without them.
        damaged = [step for step in finished_steps(self.folder) if not self._has_metrics(step)]
        if damaged and jax.process_index() == 0:
            for step in damaged:
                self._put_aside(step)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices('open checkpoints')
        with _disk_errors(self.folder, 'open'):
            self._manager = ocp.CheckpointManager(self.folder, options=self._options)

    def _has_metrics(self, step: int) -> bool:
        """Whether the metrics of a checkpoint can be read, or it has none."""
        path = self.folder / str(step) / 'metrics' / 'metrics'
        try:
            return not path.exists() or isinstance(json.loads(path.read_text()), dict)
        except (OSError, ValueError) as error:
            logging.getLogger(__name__).warning('%s', unreadable(path, error))
            return False

    def _put_aside(self, step: int) -> None:
        target = epath.Path(self.folder.with_name(f'{self.folder.name}.corrupt-{step}'))
        target.rmtree(missing_ok=True)
        epath.Path(self.folder / str(step)).rename(target)

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        *,
        model: Any,
        training: Any,
        data: Mapping[str, Any],
        meta: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Copies everything and returns; writing goes on behind. RunError if the disk does not take it."""
        with _disk_errors(self.folder):
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(model),
                    training=ocp.args.StandardSave(training),
                    data=ocp.args.JsonSave(dict(data)),
                    meta=ocp.args.JsonSave(dict(meta)),
                ),
                metrics=dict(metrics) if metrics else None,
                force=True,
            )

    def wait(self) -> None:
        """Returns when everything is written; RunError if the disk did not take it."""
        with _disk_errors(self.folder):
            self._manager.wait_until_finished()

    def shapes(self, step: int, item: str) -> dict[str, tuple[int, ...]]:
        """Path of each array of an item -> its shape, without reading the arrays."""
        return _stored_shapes(self.folder / str(step) / item)

    def restore(
        self, step: int, *, model: Any, training: Any
    ) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
        """Reads a checkpoint into trees of `jax.ShapeDtypeStruct`.

        Returns the model's and the training's tree, sharded as the given ones say, the state of the
        data iterator, and `meta` as it was saved.
        """
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardRestore(model),
                training=ocp.args.StandardRestore(training),
                data=ocp.args.JsonRestore(),
                meta=ocp.args.JsonRestore(),
            ),
        )
        return restored.model, restored.training, restored.data, restored.meta

    def discard(self, step: int) -> None:
        """Moves a checkpoint that cannot be read out of the way, to `checkpoints.corrupt-STEP`."""
        self._manager.close()
        if jax.process_index() == 0:
            self._put_aside(step)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices('discard checkpoint')
        self._open()

    def close(self) -> None:
        with _disk_errors(self.folder):
            self._manager.close()


def best_step(folder: str | Path, metric: str) -> int:
    """The step of the checkpoint whose metric is best: the greatest, or of '-NAME' the least.

    Raises:
      UserError: no checkpoint has recorded it.
    """
    folder, name = _absolute(folder), metric.removeprefix('-')
    scores, known = {}, set()
    for step in finished_steps(folder):
        path = folder / str(step) / 'metrics' / 'metrics'
        try:
            metrics = json.loads(path.read_text())
        except (OSError, ValueError):  # none were measured at this step, or the file is damaged
            continue
        known |= metrics.keys()
        if name in metrics:
            scores[step] = _score(metrics, metric)
    if not scores:
        recorded = f'recorded are {", ".join(sorted(known))}' if known else 'none has recorded any'
        raise UserError(f'{folder}: no checkpoint has recorded {name!r}; {recorded}')
    return max(scores, key=lambda step: (scores[step], step))


def restore_model(
    folder: str | Path, model: Any, step: int | None = None, average: int = 1
) -> tuple[Any, int]:
    """Reads only the `model` item of the newest readable checkpoint (or of the one at `step`).

    Args:
      folder: a run's `checkpoints`.
      model: tree of `jax.ShapeDtypeStruct`.
      step: of the checkpoint.
      average: number of checkpoints, ending with this one, whose mean is returned.

    Returns:
      The tree with the arrays, and the step.

    Raises:
      UserError: no checkpoint, none that can be read, fewer than `average`, or one that does not fit
        the tree.
    """
    folder = _absolute(folder)
    steps = finished_steps(folder)
    if step is not None and step not in steps:
        raise UserError(f'{folder}: no checkpoint of step {step}; there are: {steps}')
    if not steps:
        raise UserError(f'{folder}: no checkpoint')
    candidates = [s for s in reversed(steps) if step is None or s <= step]
    found, failure = {}, None
    for candidate in candidates if step is None else candidates[:average]:
        path = folder / str(candidate) / 'model'
        try:
            compare_shapes(path, _stored_shapes(path), array_shapes(model))
            with ocp.StandardCheckpointer() as reader:
                found[candidate] = reader.restore(path, model)
        except UserError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many types on a damaged file
            failure = error
            logging.getLogger(__name__).warning('%s', unreadable(path, error))
        if len(found) == average:
            break
    else:
        if failure:
            raise UserError(unreadable(folder, failure))
        raise UserError(f'{folder}: {average} checkpoints to average, but there are {len(found)}')
    newest, *others = found.values()
    if others:
        newest = jax.tree.map(lambda *arrays: sum(arrays) / average, newest, *others)
    return newest, max(found)


def restore_variables(
    folder: str | Path,
    variables: dict[str, Any],
    *,
    averaged: bool,
    step: int | None = None,
    average: int = 1,
) -> tuple[dict[str, Any], int]:
    """Reads what is evaluated and used later, and nothing that only training needs.

    Args:
      folder, step, average: as in `restore_model`, whose errors it raises, too.
      variables: of the model, as `jax.ShapeDtypeStruct`s: 'params' and other collections.
      averaged: whether the run keeps moving averages (`config.optimizer.ema`), which then are read.

    Returns:
      The variables with the arrays, and the step. Parameters of the run's task are left out where
      `variables` has none.
    """
    path = _absolute(folder) / str(
        step if step is not None else max(finished_steps(folder), default=0)
    )
    own = _task_parameters(path / 'model') if 'task' not in variables['params'] else None
    if own is not None:
        leaf = jax.tree.leaves(variables)[0]
        own = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=leaf.sharding), own
        )
        variables = {**variables, 'params': {**variables['params'], 'task': own}}
    state = {name: value for name, value in variables.items() if name != 'params'}
    model = {'params': variables['params'], 'averaged': {}, 'model_state': state}
    if averaged:
        model['averaged'] = variables['params']
        if state:
            model['averaged_state'] = state
    model, step = restore_model(folder, model, step, average)
    state = model.get('averaged_state', model['model_state'])
    params = model['averaged'] or model['params']
    if own is not None:
        params = {name: tree for name, tree in params.items() if name != 'task'}
    return {'params': params, **state}, step


def _task_parameters(path: Path) -> Any:
    """The tree of a task's own parameters in a checkpoint; None if it has none, or cannot be read."""
    try:
        with ocp.StandardCheckpointer() as reader:
            return reader.metadata(path).item_metadata.tree['params'].get('task')
    except Exception:  # the error is reported when the checkpoint is read
        return None


def save_model(folder: str | Path, step: int, model: Any) -> None:
    """Writes a checkpoint that holds the `model` item only; returns when it is on the disk."""
    folder = _absolute(folder)
    item = ocp.args.Composite(model=ocp.args.StandardSave(model))
    with _disk_errors(folder), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(folder / str(step), item)


def array_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """'/'-joined path of each array in a tree -> its shape."""
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if hasattr(leaf, 'shape')
    }


def compare_shapes(
    place: str | Path, stored: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """UserError that names the arrays on both sides, unless all names and shapes are the same."""
    differences = [
        f'{name} is {stored.get(name, "missing")} in the checkpoint, '
        f'{wanted.get(name, "missing")} in the model'
        for name in sorted(stored.keys() | wanted.keys())
        if stored.get(name) != wanted.get(name)
    ]
    if differences:
        more = f', and {len(differences) - 3} more' if len(differences) > 3 else ''
        raise UserError(f'{place} does not fit: {"; ".join(differences[:3])}{more}')


def unreadable(place: str | Path, error: Exception | None) -> str:
    """One line that says that a checkpoint cannot be read, and why."""
    return f'{place} cannot be read ({type(error).__name__}: {one_line(error)})'


def _absolute(folder: str | Path) -> Path:
    path = to_path(folder)
    return path.absolute() if is_local(path) else path


def finished_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder that were written to their end, in order."""
    if not folder.is_dir():
        return []
    steps = [path for path in folder.iterdir() if path.name.isdigit()]
    return sorted(int(path.name) for path in steps if ocp.utils.is_checkpoint_finalized(path))


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with ocp.StandardCheckpointer() as reader:
        return array_shapes(reader.metadata(path).item_metadata.tree)


def _score(metrics: Mapping[str, float], name: str) -> float:
    """What a checkpoint is ranked by; more is better, and a NaN is worst, or a metric that it lacks."""
    value = metrics.get(name.removeprefix('-'), math.nan)
    value = -value if name.startswith('-') else value
    return -math.inf if math.isnan(value) else value


@contextlib.contextmanager
def _disk_errors(folder: Path, doing: str = 'write a checkpoint in'):
    """Turns what a full or failing disk raises, here or in Orbax's threads, into one line."""
    try:
        yield
    except Exception as error:  # Orbax, TensorStore and what reads buckets raise nearly anything
        try:
            whole = finished_steps(folder)
            last = (
                f'the last whole one is {folder / str(whole[-1])}' if whole else 'there is none yet'
            )
        except Exception:
            last = 'nor can those before be listed'
        reason = one_line(error)
        raise RunError(f'cannot {doing} {folder}: {reason}; {last}') from error
