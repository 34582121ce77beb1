"""A run, built: model, task, data, optimizer and mesh, all checked before anything is compiled."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from vitjax.errors import UserError, unknown
from vitjax.layers.stacks import record_stacks
from vitjax.models.contract import call_options, example_inputs
from vitjax.protocols import TaskData
from vitjax.tasks.task import Task
from vitjax.training import sharding
from vitjax.training.state import TrainState
from vitjax.training.step import make_eval_step, make_train_step, with_frozen


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Durations of a run, in steps; None is never."""

    total: int
    log: int
    eval: int | None
    checkpoint: int | None


@dataclasses.dataclass(frozen=True)
class Training:
    """What only a run that trains has.

    Attributes:
      batch_size: examples a step, over all devices and hosts.
      lengths: of the run.
      schedule: step -> learning rate; None where the optimizer has a rate of its own.
      make_optimizer: parameters (or their shapes) and paths of stacks -> complete optax transformation.
      accumulate: micro-batches a step.
      ema: decay a step of the averaged parameters; None for none.
      start: gives, for the shapes of the variables, those to start from, or None for random ones.
    """

    batch_size: int
    lengths: Lengths
    schedule: optax.Schedule | None
    make_optimizer: Callable[[Any, Any], optax.GradientTransformation]
    accumulate: int = 1
    ema: float | None = None
    start: Callable[['Experiment'], dict[str, Any] | None] = lambda experiment: None


class Experiment:
    """A model, a task and data on a mesh of devices, ready to run.

    `vitjax.training.build.build_experiment` makes one as a config says.

    Args:
      model: the Flax module.
      task: what is learned or evaluated.
      data: as the task has opened them.
      mesh: of all devices of all hosts.
      seed: of the run.
      eval_batch_size: examples a step of evaluation, over all devices and hosts.
      compute, matmul: precision of the computation, and of float32 matrix products, see `config.precision`.
      open_data: opens a split of the data to evaluate on, with keys of `config.data` that differ.
      train_split, eval_split: names of the splits.
      training: None: it only evaluates.

    Raises:
      UserError: something does not fit together, in one line.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        task: Task,
        data: TaskData,
        mesh: jax.sharding.Mesh,
        seed: int = 0,
        eval_batch_size: int = 128,
        compute: str = 'float32',
        matmul: str = 'default',
        open_data: Callable[..., TaskData] | None = None,
        train_split: str = 'train',
        eval_split: str = 'test',
        training: Training | None = None,
    ):
        self.model, self.task, self.data, self.mesh = model, task, data, mesh
        self.seed, self.eval_batch_size = seed, eval_batch_size
        self.compute, self.matmul = compute, matmul
        self.open_data = open_data
        self.train_split, self.eval_split = train_split, eval_split
        self.training = training
        self._check_kernel()
        shapes, self.stacks = record_stacks(self._init_variables)
        self.abstract_variables = self._placed(shapes)
        if training is None:
            return
        if task.asks_for_average and training.ema is None:
            raise UserError(
                f'{type(task).__name__} takes averaged parameters; set config.optimizer.ema, such as 0.996'
            )
        if training.accumulate > 1 and not task.mean_over_examples:
            raise UserError(
                f'config.optimizer.accumulate is {training.accumulate}, but the loss of '
                f'{type(task).__name__} is not a mean over examples: it would see micro-batches, which '
                'is another loss'
            )
        self.lengths, self.schedule = training.lengths, training.schedule
        self.metric_names = self._names(train=True)  # of the loss in training, in its order
        self.optimizer = training.make_optimizer(self.abstract_variables['params'], self.stacks)

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the train state."""
        return self._placed(jax.eval_shape(self._init_state))

    @functools.cached_property
    def batch_metrics(self) -> tuple[str, ...]:
        """What the loss of the task measures in evaluation, in its order."""
        return self._names(train=False)

    @property
    def evaluated_names(self) -> tuple[str, ...]:
        """What an evaluation measures."""
        return (*self.batch_metrics, *self.task.evaluated)

    @functools.cached_property
    def frozen(self) -> Any:
        """What the task keeps frozen, on the devices; None for nothing."""
        arrays = self.task.frozen()
        if arrays is None:
            return None
        shardings = sharding.tree_shardings(arrays, self.mesh, self.stacks)
        return jax.tree.map(jax.device_put, arrays, shardings)

    def starting_variables(self) -> dict[str, Any] | None:
        """The weights to start from, in the host's memory; None for random ones.

        Raises UserError where they cannot be read or do not fit.
        """
        return self.training.start(self)

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
            self.model,
            self.task,
            self.optimizer,
            self.schedule,
            seed=self.seed,
            log_every=self.lengths.log,
            accumulate=self.training.accumulate,
            ema=self.training.ema,
        )
        shardings = jax.tree.map(lambda x: x.sharding, self.abstract_state)
        jitted = jax.jit(
            lambda state, batch, frozen=None: step(state, self.data.on_device(batch), frozen),
            donate_argnums=0,
            out_shardings=(shardings, sharding.replicated(self.mesh)),
            compiler_options=_compiler_options(self.mesh),
        )
        return self._with_frozen(jitted)

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes, dtypes and shardings of a training batch as it travels."""
        placed = sharding.batch_sharding(self.mesh)
        return {
            name: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placed)
            for name, shape in self.data.batch_shapes(self.training.batch_size).items()
        }

    def eval_step(self, data: TaskData | None = None):
        """The jitted step: sums so far, variables, batch as it travels -> sums."""
        data = data or self.data
        step = make_eval_step(self.model, self.task)
        jitted = jax.jit(
            lambda sums, variables, batch, frozen=None: step(
                sums, variables, data.on_device(batch), frozen
            ),
            out_shardings=sharding.replicated(self.mesh),
            compiler_options=_compiler_options(self.mesh),
        )
        return self._with_frozen(jitted)

    def context(self):
        """Mesh, logical axes and precision, under which everything is traced and run."""
        return sharding.context(self.mesh, self.matmul)

    def local_batch_size(self, batch_size: int) -> int:
        """This host's part of a batch."""
        return batch_size // jax.process_count()

    def check_metric(self, name: str, entries: Sequence[str] = ()) -> None:
        """UserError unless an evaluation measures it, be it one of `config.evals`, of these entries."""
        entry, slash, _ = name.partition('/')
        if slash and entry in entries:
            return
        if name not in self.evaluated_names:
            raise unknown('metric', name, [*self.evaluated_names, *(f'{e}/...' for e in entries)])

    def _with_frozen(self, step: Any) -> Any:
        return step if self.frozen is None else WithFrozen(step, self.frozen)

    def _placed(self, shapes: Any) -> Any:
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
            shapes,
            sharding.tree_shardings(shapes, self.mesh, self.stacks),
        )

    def _shapes(self, train: bool, batch_size: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """A batch as the model takes it."""
        return jax.eval_shape(self.data.on_device, self.data.batch_shapes(batch_size, train))

    def random_variables(self) -> dict[str, Any]:
        """Random variables, by the seed; also what a run starts from that names no weights."""
        with self.context():
            return jax.jit(self._init_variables)()

    def inputs(self) -> list[jax.Array]:
        """Zeros of the shapes with which the model is initialised."""
        batch = {} if _says_inputs(self.model) else self._shapes(train=self.training is not None)
        return [jnp.zeros(x.shape, x.dtype) for x in example_inputs(self.model, batch)]

    def _init_variables(self) -> Any:
        key = jax.random.key(self.seed)
        options = call_options(self.model, False)
        variables = self.model.init(key, *self.inputs(), **options)
        if type(self.task).init is Task.init:
            return variables
        own = self.task.init(jax.random.fold_in(key, 1), self._shapes(train=True))
        if own is None:
            return variables
        params = variables.get('params', {})
        if 'task' in params:
            raise UserError(
                f"{type(self.model).__name__} has parameters called 'task', which is where those of "
                f'{type(self.task).__name__} lie; call them otherwise'
            )
        return {**variables, 'params': {**params, 'task': own}}

    def _init_state(self, variables: Any = None) -> TrainState:
        rate = () if self.schedule is None else ('learning_rate',)
        names = (*self.metric_names, 'gradient_norm', *rate)
        variables = self._init_variables() if variables is None else variables
        return TrainState.create(variables, self.optimizer, names, self.training.ema is not None)

    def _names(self, train: bool) -> tuple[str, ...]:
        names = []

        def run(variables, batch, frozen):
            variables = with_frozen(variables, frozen)
            rngs = {'dropout': jax.random.key(0)} if train else {}
            options = {'rngs': rngs, 'train': train}
            found, _ = self.task.metrics(self.model, variables, batch, **options)
            names.extend(found)  # in the order of the task, which a tree of arrays does not keep

        batch = self._shapes(train, batch_size=2)
        with self.context():
            jax.eval_shape(run, self.abstract_variables, batch, self.frozen)
        return tuple(names)

    def _check_kernel(self) -> None:
        platform = self.mesh.devices.flat[0].platform
        if getattr(self.model, 'attention_kernel', None) == 'cudnn' and platform != 'gpu':
            raise UserError(
                f"config.model.attention_kernel 'cudnn' is for GPUs, not for a {platform}"
            )


class WithFrozen:
    """A jitted step whose last argument is what the task keeps frozen: an argument, not a constant."""

    def __init__(self, step: Any, frozen: Any):
        self._step, self._frozen = step, frozen

    def __call__(self, *arguments: Any) -> Any:
        return self._step(*arguments, self._frozen)

    def trace(self, *arguments: Any) -> Any:
        """As of `jax.jit`."""
        return self._step.trace(*arguments, self._frozen)

    def lower(self, *arguments: Any) -> Any:
        """As of `jax.jit`."""
        return self._step.lower(*arguments, self._frozen)


def check_batches(mesh: jax.sharding.Mesh, sizes: Mapping[str, int], accumulate: int = 1) -> None:
    """UserError unless batches divide over the devices.

    Args:
      sizes: config key -> batch size; 'batch_size' is that of training.
      accumulate: micro-batches of a training batch.
    """
    parts = sharding.batch_parts(mesh)
    hosts = len({device.process_index for device in mesh.devices.flat})
    if parts % hosts:
        raise UserError(
            f'config.mesh: data x fsdp is {parts}, which {hosts} hosts cannot '
            'share; tensor must not reach over hosts'
        )
    for key, size in sizes.items():
        pieces = parts * accumulate if key == 'batch_size' else parts
        if size % pieces:
            near = max(round(size / pieces), 1) * pieces
            raise UserError(
                f'config.{key} {size} does not divide over {parts} devices'
                f'{f" in {pieces} micro-batches" if pieces != parts else ""}; nearest that does: {near}'
            )


def _says_inputs(model: nn.Module) -> bool:
    """Whether a model is initialised without knowing a batch."""
    try:
        example_inputs(model)
    except UserError:
        return False
    return True


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
