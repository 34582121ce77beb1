"""Evaluating a run's checkpoint, with the metrics of its task or entries of its `config.evals`."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flax import linen as nn

from vitjax.checkpoints import restore_variables
from vitjax.config import read_config
from vitjax.errors import UserError
from vitjax.files import to_path
from vitjax.protocols import Evaluator
from vitjax.tasks.task import Task
from vitjax.training.build import Given, build
from vitjax.training.evaluation import SplitEvaluator, named_evaluations


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured of a checkpoint.

    Attributes:
      step: of the checkpoint.
      split: of the data, for the metrics of the task.
      metrics: of the task, None if they were not asked for.
      evals: entry of `config.evals` -> what it measured.
    """

    step: int
    split: str
    metrics: dict[str, float] | None
    evals: dict[str, dict[str, float]]


def evaluate(
    workdir: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    step: int | None = None,
    average: int = 1,
    evals: Sequence[str] | Mapping[str, Evaluator | Mapping[str, Any]] | None = None,
    model: nn.Module | None = None,
    task: Task | None = None,
    data: Any = None,
    allow_code: bool | None = None,
) -> dict[str, float]:
    """Evaluates a checkpoint of a run, on the devices of this machine.

    Args:
      workdir: the run's folder.
      overrides: dotted key of its config -> value or text, as {'data.eval_split': 'test'}.
      step: of the checkpoint; None for the newest.
      average: number of checkpoints, up to this one, whose mean parameters are evaluated.
      evals: entries of `config.evals` to run, in place of the metrics of the task; or further ones, name ->
        callable (event) -> {name: number}, or keys as in `config.evals`. None: the task's metrics alone.
      model, task, data: objects in place of named parts, see `vitjax.train`.
      allow_code: whether the run may name code that is not part of vitjax; None: unless it is in a bucket.

    Returns:
      The metrics of its task, and those of an entry of `config.evals` as 'NAME/METRIC', as `Result.metrics`.

    Raises:
      UserError: no such run or checkpoint, or a config that does not fit.
    """
    evaluated = evaluate_checkpoint(
        workdir,
        overrides=overrides,
        step=step,
        average=average,
        evals=evals,
        given=Given(model, task, data),
        allow_code=allow_code,
    )
    entries = {
        f'{name}/{key}': x for name, row in evaluated.evals.items() for key, x in row.items()
    }
    return (evaluated.metrics or {}) | entries


def evaluate_checkpoint(
    workdir: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    step: int | None = None,
    average: int = 1,
    evals: Sequence[str] | Mapping[str, Evaluator | Mapping[str, Any]] | None = None,
    given: Given | None = None,
    allow_code: bool | None = None,
) -> Evaluation:
    """Evaluates a checkpoint, with arguments as `evaluate` takes them."""
    given = given or Given()
    if average < 1:
        raise UserError('--average must be at least 1')
    workdir = to_path(workdir)
    stored = workdir / 'config.json'
    if not stored.is_file() or not (workdir / 'checkpoints').is_dir():
        raise UserError(
            f'{workdir} is not the folder of a run: it has no config.json, or no checkpoints'
        )
    # The devices of this machine, not those that the run was trained on.
    overrides = {'mesh.data': -1, 'mesh.fsdp': 1, 'mesh.tensor': 1} | dict(overrides or {})
    config = read_config(stored, overrides, allow_code=allow_code)
    given.check(config, workdir)
    config, experiment = build(config, run=workdir, training=False, given=given)
    entries, more = config.evals.to_dict(), {}
    if isinstance(evals, Mapping):
        more = {k: {'name': x} if callable(x) else dict(x) for k, x in evals.items()}
        evals = tuple(more)
    chosen = named_evaluations(entries | more, experiment, only=tuple(evals or ()))
    variables, step = restore_variables(
        workdir / 'checkpoints',
        experiment.abstract_variables,
        averaged=config.optimizer.ema is not None,
        step=step,
        average=average,
    )
    metrics = SplitEvaluator(experiment)(variables) if not evals else None
    found = {evaluation.name: evaluation(step, variables) for evaluation in chosen}
    return Evaluation(step, config.data.eval_split, metrics, found)


def rows(found: Evaluation) -> Iterator[tuple[str, dict[str, float]]]:
    """Split or name of an entry -> what was measured, one after another."""
    if found.metrics is not None:
        yield found.split, found.metrics
    yield from found.evals.items()
