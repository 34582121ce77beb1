"""From a config to an experiment: every named part is found, called with its keys, and checked."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn

from vitjax import registry
from vitjax.config import arguments, in_steps, total_steps
from vitjax.config.keys import Checkpoint
from vitjax.data.inputs import DataOptions
from vitjax.data.sources import Splits, check_splits, is_stream
from vitjax.errors import UserError
from vitjax.models.registry import create_model
from vitjax.tasks import Task, make_task
from vitjax.training import optimizers, schedules, sharding
from vitjax.training.experiment import Experiment, Lengths, Training, check_batches
from vitjax.training.resolve import Resolved, resolve, starting_variables

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Given:
    """Objects passed in Python instead of named parts; None: the config names the part.

    Attributes:
      model: a Flax module.
      task: a `Task`.
      data: {split: source}, or a function that returns it.
      optimizer: a complete optax transformation, or a function of the schedule that returns one.
    """

    model: nn.Module | None = None
    task: Task | None = None
    data: Any = None
    optimizer: Any = None

    def __post_init__(self):
        expected = {
            'model': (nn.Module, 'a Flax module'),
            'task': (Task, 'a vitjax.Task'),
            'data': ((Mapping, Callable), '{split: source} or a function that returns it'),
            'optimizer': ((optax.GradientTransformation, Callable), 'an optax transformation'),
        }
        for part, (kind, shown) in expected.items():
            value = getattr(self, part)
            if isinstance(value, type):
                raise UserError(f'{part}={value.__name__} is a class: give an instance of it')
            if value is not None and not isinstance(value, kind):
                raise UserError(f'{part} must be {shown}, not {type(value).__name__}')

    def check_overrides(self, overrides: Mapping[str, Any]) -> None:
        """UserError for a key that has no effect on an optimizer that is given as an object."""
        if not isinstance(self.optimizer, optax.GradientTransformation):
            return
        around = ('frozen', 'layer_decay', 'clip_norm', 'accumulate', 'ema', 'nonfinite')
        for key in overrides:
            part, _, name = key.partition('.')
            if part == 'schedule' or (part == 'optimizer' and name not in around):
                raise UserError(
                    f'config.{key} has no effect on an optimizer that is given as an object'
                )

    @property
    def names(self) -> list[str]:
        """The parts that are given."""
        return [name for name, value in vars(self).items() if value is not None]

    def without_names(self, config: ml_collections.ConfigDict) -> dict[str, Any]:
        """A config as plain dicts, in which the parts that are given have no name and no further keys."""
        values = config.to_dict()
        for part in self.names:
            common = arguments(part)
            values[part] = {k: v for k, v in values[part].items() if k in common} | {'name': None}
        return values

    def check(self, config: ml_collections.ConfigDict, run: Path) -> None:
        """UserError where a part of a run was given as an object, and is not given now."""
        for part in ('model', 'task', 'data'):
            if config[part].name is None and getattr(self, part) is None:
                raise UserError(
                    f'{run}: its {part} was given as an object in Python; give it again ({part}=...)'
                )

    @property
    def splits(self) -> Splits | None:
        """The splits of the data that are given."""
        if self.data is None:
            return None
        data = self.data if isinstance(self.data, Mapping) else self.data()
        return check_splits(data, 'data')


def build_experiment(
    config: ml_collections.ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    *,
    read_data: bool = True,
    run: Path | None = None,
    training: bool = True,
    given: Given | None = None,
) -> Experiment:
    """The experiment of a config, see `build`."""
    return build(config, devices, read_data=read_data, run=run, training=training, given=given)[1]


def build(
    config: ml_collections.ConfigDict,
    devices: Sequence[jax.Device] | None = None,
    *,
    read_data: bool = True,
    run: Path | None = None,
    training: bool = True,
    given: Given | None = None,
    evals: Mapping[str, Any] | None = None,
) -> tuple[ml_collections.ConfigDict, Experiment]:
    """The config with what it left open filled in, and the experiment that it describes.

    Args:
      config: complete, as `read_config` returns it.
      devices: that it is for, all of all hosts; None: those that are here.
      read_data: False: nothing is read, and an epoch is as long as ImageNet's.
      run: folder of the run, if there may be one already.
      training: False: it only evaluates. The training data are not read.
      given: objects in place of named parts.
      evals: further entries beside `config.evals`, of which `config.checkpoint.best` may name a value.

    Raises:
      UserError: something does not fit together, in one line.
    """
    given = given or Given()
    mesh = sharding.make_mesh(config.mesh, devices)
    sizes = {'batch_size': config.batch_size} if training else {}
    eval_batch_size = config.eval.batch_size or config.batch_size
    sizes['eval.batch_size'] = eval_batch_size
    check_batches(mesh, sizes, config.optimizer.accumulate)
    task = given.task or make_task(config.task)
    if config.model.pretrained is not None and not task.takes_pretrained:
        raise UserError(
            f'config.model.pretrained starts models of images, not {config.task.name or "this task"}'
        )
    if config.model.name is not None:
        # Before data are read for what the config leaves open.
        kind = registry.find('model', config.model.name)
        kind = getattr(kind, 'func', kind)
        if isinstance(kind, type):
            task.check_model(kind)
    resolved = resolve(
        config,
        run=run,
        model=given.model,
        splits=given.splits,
        needs_classes=task.needs_classes,
        read_data=read_data,
    )
    config = resolved.config
    model = given.model if given.model is not None else _make_model(config)
    task.check_model(model)
    options = DataOptions(
        keys=config.data.to_dict(),
        text=config.text.to_dict(),
        augment=config.augment.to_dict(),
        seed=config.seed,
        model=model,
        splits=resolved.splits,
        run=run,
        training=training,
        read=read_data,
    )
    data = task.open_data(options)
    experiment = Experiment(
        model=model,
        task=task,
        data=data,
        mesh=mesh,
        seed=config.seed,
        eval_batch_size=eval_batch_size,
        compute=config.precision.compute,
        matmul=config.precision.matmul,
        open_data=_opener(task, options),
        train_split=config.data.train_split,
        eval_split=config.data.eval_split,
        training=_training(config, data, resolved, given) if training else None,
    )
    if config.checkpoint.best:
        experiment.check_metric(
            config.checkpoint.best.removeprefix('-'), [*config.evals, *(evals or {})]
        )
    return config, experiment


def keys_of(part: Mapping[str, Any], *common: str) -> dict[str, Any]:
    """The arguments of what a part names: its keys but the name and other common ones."""
    return {key: value for key, value in part.items() if key not in ('name', *common)}


def _make_model(config: ml_collections.ConfigDict) -> nn.Module:
    part = config.model.to_dict()
    arguments = keys_of(part, 'pretrained', 'load')
    # The computation's dtype, where the model has such an argument.
    if 'dtype' in registry.parameters(registry.find('model', part['name'])):
        arguments['dtype'] = jnp.dtype(config.precision.compute)
    elif config.precision.compute != 'float32':
        raise UserError(
            f'config.precision.compute is {config.precision.compute}, but {part["name"]} has no '
            'argument dtype'
        )
    return create_model(part['name'], **arguments)


def _opener(task: Task, options: DataOptions) -> Callable[..., Any]:
    """Opens a split of the data for evaluation, once for each split and keys."""
    opened = {}

    def open_data(split: str, changes: Mapping[str, Any] | None = None) -> Any:
        key = split, repr(sorted((changes or {}).items()))
        if key not in opened:
            if unknown := [name for name in changes or {} if name not in options.keys]:
                raise UserError(f'config.evals: data has no key {unknown[0]!r}')
            changed = dataclasses.replace(
                options,
                keys=options.keys | dict(changes or {}) | {'eval_split': split},
                splits=None if changes else options.splits,
                training=False,
            )
            opened[key] = task.open_data(changed)
        return opened[key]

    return open_data


def _training(
    config: ml_collections.ConfigDict, data: Any, resolved: Resolved, given: Given
) -> Training:
    epoch = None if is_stream(data.train) else len(data.train)

    def steps(key: str) -> int | None:
        part, name = key.split('.')
        duration = config[part][name]
        if epoch is None and key == 'checkpoint.every' and duration == Checkpoint().every:
            logger.warning(
                'a stream has no epochs: without config.checkpoint.every, it is saved at the end'
            )
            return None
        found = in_steps(duration, batch_size=config.batch_size, epoch=epoch, key=f'config.{key}')
        if name == 'every' and found == 0:
            raise UserError(f'config.{key} must be at least one step')
        return found

    lengths = Lengths(
        total=total_steps(config, epoch),
        log=steps('log.every'),
        eval=steps('eval.every'),
        checkpoint=steps('checkpoint.every'),
    )
    schedule = schedules.create(
        config.schedule.to_dict(),
        config.optimizer.learning_rate,
        total=lengths.total,
        warmup=steps('schedule.warmup'),
        cooldown=steps('schedule.cooldown'),
    )
    has_schedule = optimizers.takes_schedule(config.optimizer.to_dict(), given.optimizer)
    weights = [resolved.weights]  # given away when they are used, for they may be large

    def start(experiment: Experiment) -> dict[str, Any] | None:
        return starting_variables(
            config.model.to_dict(),
            weights.pop() if weights else None,
            experiment.model,
            experiment.abstract_variables,
            experiment.random_variables,
            experiment.inputs(),
        )

    def make_optimizer(params: Any, stacks: Any) -> optax.GradientTransformation:
        return optimizers.create(
            config.optimizer.to_dict(), schedule, params, stacks, given=given.optimizer
        )

    return Training(
        batch_size=config.batch_size,
        lengths=lengths,
        schedule=schedule if has_schedule else None,
        make_optimizer=make_optimizer,
        accumulate=config.optimizer.accumulate,
        ema=config.optimizer.ema,
        start=start,
    )
