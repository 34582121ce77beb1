"""The base class of tasks: what is learned, and from which data."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.data.inputs import DataOptions, ExampleData, Transform, open_examples
from vitjax.errors import UserError
from vitjax.models import contract


class Task:
    """What is learned. Only `loss` has to be written; everything else has a default.

    A subclass is usually a frozen dataclass: its fields are the keys of `config.task`.

    Attributes:
      images: keys of a batch that are images [B, ..., H, W, C], normalised on the device.
      needs_classes: whether the model needs a head for the classes of the data; weights are then loaded
        without theirs, unless it is for as many.
      takes_pretrained: whether `config.model.pretrained` may name weights to start from.
      mean_over_examples: whether the loss of a batch is the mean of what each example has by itself. Where it
        is not, as for contrastive losses, the loss of a batch is not that of its micro-batches, and
        `config.optimizer.accumulate` is refused.
    """

    images: tuple[str, ...] = ('image',)
    needs_classes: bool = False
    takes_pretrained: bool = True
    mean_over_examples: bool = True

    def loss(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        batch: Mapping[str, jax.Array],
        *,
        rngs: Mapping[str, jax.Array],
        train: bool,
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Loss and metrics of a batch; a pure function, part of the jitted step.

        A subclass may also take `averaged`: the variables with the moving averages of `config.optimizer.ema`,
        as for the teacher of a self-distillation. They are no part of the gradient.

        Args:
          model: the Flax module.
          variables: 'params' and the model's other collections; 'params' has the task's own parameters
            under 'task', and 'frozen' holds what `frozen` returned.
          batch: name -> array [B, ...], and 'mask', bool [B], False for padding.
          rngs: {'dropout': key} in training, {} in evaluation.
          train: whether it is a training step.

        Returns:
          {'loss': ..., other metrics ...}, each an array [B], whose mean over the examples that are not
          padding counts, or a pair (sum, count) of scalars; and the new state of the model's other
          collections, as `apply` returns it ({} for none).
        """
        raise NotImplementedError(f'{type(self).__name__} has no method loss')

    def metrics(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        batch: Mapping[str, jax.Array],
        *,
        rngs: Mapping[str, jax.Array],
        train: bool,
        averaged: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """What `loss` measures, each float32 [2]: sum and count over what is not padding; and the new state.

        `averaged` are the averaged variables, for a loss that takes them; None for `variables`.
        """
        options = {'rngs': rngs, 'train': train}
        if self.asks_for_average:
            options['averaged'] = variables if averaged is None else averaged
        found = self.loss(model, variables, batch, **options)
        name = type(self).__name__
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Mapping)):
            raise UserError(f'{name}.loss must return ({{name: values}}, new collections)')
        values, state = found
        if 'loss' not in values:
            raise UserError(
                f"{name}.loss must return a value called 'loss', not {', '.join(values)}"
            )
        try:
            return {
                key: sum_and_count(value, batch['mask']) for key, value in values.items()
            }, state
        except ValueError as error:
            raise UserError(f'{name}.loss: {error}') from error

    @property
    def asks_for_average(self) -> bool:
        """Whether `loss` takes the averaged variables."""
        return 'averaged' in inspect.signature(self.loss).parameters

    def apply(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        *inputs: Any,
        train: bool,
        rngs: Mapping[str, jax.Array] | None = None,
        method: str = '__call__',
        **options: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """The model's outputs, and the new state of its other collections, both as `loss` needs them.

        The model gets `train=` or `deterministic=` where it accepts it.
        """
        return contract.apply(
            model, variables, *inputs, train=train, rngs=rngs, method=method, **options
        )

    def init(self, rng: jax.Array, batch: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
        """Parameters of the task's own, such as a projection head; None for none.

        They are trained and saved with the model's, and lie under 'task' in its parameters.
        """
        return None

    def frozen(self) -> Any:
        """Arrays that `loss` needs and that are not trained, such as a teacher's variables; None for none.

        They are made once a run, are arguments of the step, and are not saved with it.
        """
        return None

    def transform(
        self,
        example: Mapping[str, Any],
        rng: np.random.Generator,
        *,
        augment: Transform,
        train: bool,
    ) -> Mapping[str, Any]:
        """From an example of the source to what a batch holds: numbers and arrays of fixed shapes.

        Here image and targets can be changed together, and an image can be augmented more than once.

        Args:
          example: as the source gives it; an image may not be decoded yet (`np.asarray` does).
          rng: random numbers, a function of seed, epoch and example.
          augment: (example, rng) -> example, its image augmented as `config.augment` says and of the size
            that the model takes; in evaluation preprocessed.
          train: whether it is for training.
        """
        return augment(example, rng)

    def check_model(self, model: Any) -> None:
        """UserError unless the task is for such a model: a module, or its class before it is built."""

    def open_data(self, options: DataOptions) -> ExampleData:
        """Opens the data that a config names; UserError if they do not fit the task or the model."""
        return open_examples(options, self.transform, self.images)

    def predict(self, outputs: Any) -> dict[str, jax.Array]:
        """What a prediction is: outputs of the model -> name -> [B, ...]."""
        return {'output': outputs}

    def check_predicts(self, model: nn.Module, source: str) -> None:
        """UserError where a model, loaded from a source, predicts nothing by which this task can answer."""

    def answer(
        self, prediction: Mapping[str, np.ndarray], labels: tuple[str, ...] | None, top: int
    ) -> tuple[str, dict[str, Any]]:
        """The prediction of one example as `vitjax predict` prints it: as text, and as a JSON object."""
        values = {name: np.asarray(value).tolist() for name, value in prediction.items()}
        return '  '.join(f'{name} {_rounded(value)}' for name, value in values.items()), values

    def evaluate(
        self, model: nn.Module, variables: Mapping[str, Any], data: Any
    ) -> dict[str, float]:
        """What an evaluation measures besides, with the model in use and not batch by batch, such as BLEU."""
        return {}

    def next_command(self, run: Path) -> list[str]:
        """What `vitjax train` proposes to type next; [] for nothing."""
        if examples := sorted((run / 'examples').glob('*')):
            return ['vitjax', 'predict', '--checkpoint', str(run), *map(str, examples)]
        return ['vitjax', 'eval', '--workdir', str(run)]

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The names of what `evaluate` returns."""
        return ()


def sum_and_count(values: jax.Array | tuple[jax.Array, jax.Array], mask: jax.Array) -> jax.Array:
    """A metric as `Task.loss` returns it -> float32 [2], its sum and count over what is not padding."""
    if isinstance(values, tuple):
        total, count = values
    else:
        if values.shape != mask.shape:
            raise ValueError(
                f'a loss or metric is an array [B] or a pair (sum, count), not {list(values.shape)}; '
                f'B is {mask.shape[0]}'
            )
        total, count = jnp.where(mask, values, 0).sum(dtype=jnp.float32), mask.sum()
    return jnp.stack([jnp.asarray(total, jnp.float32), jnp.asarray(count, jnp.float32)])


def name_of(model: Any) -> str:
    """The name of the class of a model, or of the class that is given."""
    return model.__name__ if isinstance(model, type) else type(model).__name__


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return f'[{", ".join(str(_rounded(item)) for item in value)}]'
    return f'{value:.4g}' if isinstance(value, float) else value
