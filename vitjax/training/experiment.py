"""A config, built: model, task, data, optimizer and mesh, all checked before anything is compiled."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn

from vitjax.config import in_steps, signature, total_steps
from vitjax.errors import UserError, unknown
from vitjax.models.registry import create_model
from vitjax.tasks import TASKS
from vitjax.training import optimizers, schedules, sharding
from vitjax.training.finetuning import starting_variables
from vitjax.training.state import TrainState
from vitjax.training.step import make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Durations of a run, in steps; None is never."""

    total: int
    log: int
    eval: int | None
    checkpoint: int | None


class Experiment:
    """What a config says, ready to run.

    Args:
      config: complete, as `read_config` returns it.
      devices: that it is for, all of all hosts; None: those that are here.
      run: folder of the run, if there may be one already.
      training: False: it only evaluates. The training data are not read, and there are no `lengths`,
        `schedule`, `optimizer` and what is made of them.
      read_data: False: nothing is read, and an epoch is as long as ImageNet's.

    Raises:
      UserError: something does not fit together, in one line.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        devices: Sequence[jax.Device] | None = None,
        read_data: bool = True,
        run: Path | None = None,
        training: bool = True,
    ):
        self.config = config
        self.mesh = sharding.make_mesh(config.mesh, devices)
        self._check_batches(training)
        self._check_kernel()
        dtype = jnp.dtype(config.precision.compute)
        arguments = {key: value for key, value in config.model.items() if key != 'pretrained'}
        self.model: nn.Module = create_model(**arguments, dtype=dtype)
        self.task = self._make_task()
        best = (config.checkpoint.best or 'loss').removeprefix('-')
        measured = (*self.task.metric_names, *self.task.quality_names)
        if best not in measured:
            raise unknown('metric', best, measured)
        if read_data:
            self.data = self.task.open_data(config, run, training)
        else:
            self.data = self.task.unread_data(config)
        self.abstract_variables = self._placed(jax.eval_shape(self._init_variables))
        if not training:
            return
        self.lengths = self._measure()
        self.schedule = schedules.create(
            config.schedule,
            config.optimizer.learning_rate,
            total=self.lengths.total,
            warmup=self._steps('schedule.warmup'),
            cooldown=self._steps('schedule.cooldown'),
        )
        self.optimizer: optax.GradientTransformation = optimizers.create(
            config.optimizer, self.schedule, self.abstract_variables['params']
        )

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the train state."""
        return self._placed(jax.eval_shape(self._init_state))

    def starting_variables(self) -> dict[str, Any] | None:
        """The weights to start from, in the host's memory; None where the config names none.

        Raises UserError where they cannot be read or do not fit.
        """
        if not self.config.model.pretrained:
            return None
        return starting_variables(self.config.model, self.abstract_variables)

    def init_state(self, variables: dict[str, Any] | None = None) -> TrainState:
        """The state before the first step, made in place on the devices that hold its parts.

        The variables are those of `starting_variables`; None for random ones.
        """
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract_state)
        with self.context():
            return jax.jit(self._init_state, out_shardings=shardings)(variables)

    def train_step(self):
        """The jitted step: state (donated), batch as it travels -> state, values for the log."""
        step = make_train_step(
            self.model, self.task, self.optimizer, self.schedule, self.config, self.lengths.log
        )
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract_state)
        return jax.jit(
            lambda state, batch: step(state, self.data.on_device(batch)),
            donate_argnums=0,
            out_shardings=(shardings, sharding.replicated(self.mesh)),
            compiler_options=_compiler_options(self.mesh),
        )

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, dtypes and shardings of a batch as it travels."""
        placed = sharding.batch_sharding(self.mesh)
        return {
            name: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placed)
            for name, shape in self.data.batch_shapes(self.config.batch_size).items()
        }

    def eval_step(self):
        """The jitted step: sums so far, variables, batch as it travels -> sums."""
        step = make_eval_step(self.model, self.task)
        return jax.jit(
            lambda sums, variables, batch: step(sums, variables, self.data.on_device(batch)),
            out_shardings=sharding.replicated(self.mesh),
            compiler_options=_compiler_options(self.mesh),
        )

    def context(self):
        """Mesh, logical axes and precision, under which everything is traced and run."""
        return sharding.context(self.mesh, self.config.precision.matmul)

    def local_batch_size(self, batch_size: int) -> int:
        """This host's part of a batch."""
        return batch_size // jax.process_count()

    @property
    def eval_batch_size(self) -> int:
        return self.config.eval.batch_size or self.config.batch_size

    def _placed(self, shapes: Any) -> Any:
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            shapes,
            sharding.tree_shardings(shapes, self.mesh),
        )

    def _init_variables(self) -> Any:
        return self.model.init(jax.random.key(self.config.seed), *self.data.model_inputs)

    def _init_state(self, variables: Any = None) -> TrainState:
        names = (*self.task.metric_names, 'gradient_norm', 'learning_rate')
        average = self.config.optimizer.ema is not None
        variables = self._init_variables() if variables is None else variables
        return TrainState.create(variables, self.optimizer, names, average)

    def _make_task(self):
        kind = TASKS[self.config.task.name]
        try:
            return kind(**{name: self.config.task[name] for name in signature(kind)})
        except ValueError as error:
            raise UserError(f'config.task: {error}') from error

    def _check_kernel(self) -> None:
        platform = self.mesh.devices.flat[0].platform
        if self.config.model.get('attention_kernel') == 'cudnn' and platform != 'gpu':
            raise UserError(
                f"config.model.attention_kernel 'cudnn' is for GPUs, not for a {platform}"
            )

    def _check_batches(self, training: bool) -> None:
        config = self.config
        parts = sharding.batch_parts(self.mesh)
        hosts = len({device.process_index for device in self.mesh.devices.flat})
        if parts % hosts:
            raise UserError(
                f'config.mesh: data x fsdp is {parts}, which {hosts} hosts cannot '
                'share; tensor must not reach over hosts'
            )
        sizes = [('eval.batch_size', self.eval_batch_size, parts, 'parts')]
        if training:
            pieces = parts * config.optimizer.accumulate
            sizes.insert(0, ('batch_size', config.batch_size, pieces, 'micro-batches'))
        for key, size, pieces, what in sizes:
            if size % pieces:
                near = max(round(size / pieces), 1) * pieces
                raise UserError(
                    f'config.{key} {size} does not divide over {parts} devices'
                    f'{f" in {pieces} {what}" if pieces != parts else ""}; nearest that does: {near}'
                )

    def _measure(self) -> Lengths:
        total = total_steps(self.config, len(self.data.train))
        return Lengths(
            total=total,
            log=self._steps('log.every'),
            eval=self._steps('eval.every'),
            checkpoint=self._steps('checkpoint.every'),
        )

    def _steps(self, key: str) -> int | None:
        part, name = key.split('.')
        steps = in_steps(
            self.config[part][name],
            batch_size=self.config.batch_size,
            epoch=len(self.data.train),
            key=f'config.{key}',
        )
        if name == 'every' and steps == 0:
            raise UserError(f'config.{key} must be at least one step')
        return steps


def _compiler_options(mesh: jax.sharding.Mesh) -> dict[str, str | bool]:
    """XLA's options for the steps."""
    if mesh.devices.flat[0].platform != 'cpu':
        return {}
    return {
        # XLA's newer fusions: of sums they are faster, of products and convolutions slower or equal.
        'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE',
        # Without it the optimizer's moments are copied before they are updated in place.
        'xla_cpu_copy_insertion_use_region_analysis': True,
    }
