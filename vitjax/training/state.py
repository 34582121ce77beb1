"""Everything that a training step reads and writes, as one pytree."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """Parameters, optimizer, and running sums for the log: what a checkpoint holds.

    Attributes:
      step: steps taken, int32.
      params: the model's parameters, float32.
      averaged: their exponential moving average; an empty dict without one.
      model_state: other collections of the model, such as batch statistics.
      opt_state: of the optimizer.
      metrics: name -> float32 [2], sum and count since the last log.
      skipped_examples: corrupt examples left out so far, int32.
      skipped_updates: updates left out so far for a loss or gradient that was not finite, int32.
      first_nonfinite: the first step with such a loss or gradient, -1 if none, int32.
    """

    step: jax.Array
    params: Any
    averaged: Any
    model_state: Any
    opt_state: Any
    metrics: dict[str, jax.Array]
    skipped_examples: jax.Array
    skipped_updates: jax.Array
    first_nonfinite: jax.Array

    @classmethod
    def create(
        cls,
        variables: dict[str, Any],
        optimizer: optax.GradientTransformation,
        metric_names: tuple[str, ...],
        average: bool,
    ) -> 'TrainState':
        """The state before the first step; `variables` come from the model's `init`."""
        model_state, params = flax.core.pop(variables, 'params')
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            # A copy: the step donates its state, and no buffer can be given away twice.
            averaged=jax.tree.map(jnp.copy, params) if average else {},
            model_state=model_state,
            opt_state=optimizer.init(params),
            metrics={name: jnp.zeros(2) for name in metric_names},
            skipped_examples=jnp.zeros((), jnp.int32),
            skipped_updates=jnp.zeros((), jnp.int32),
            first_nonfinite=jnp.full((), -1, jnp.int32),
        )

    @property
    def variables(self) -> dict[str, Any]:
        """What is evaluated and used later: averaged parameters if there are any."""
        return {'params': self.averaged or self.params, **self.model_state}


def split_state(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """A state as a checkpoint holds it: what later use needs, and what only a resumed run needs."""
    parts = flax.serialization.to_state_dict(state)
    return {name: parts.pop(name) for name in ('params', 'averaged', 'model_state')}, parts


def join_state(like: TrainState, model: dict[str, Any], training: dict[str, Any]) -> TrainState:
    """The inverse of `split_state`; `like` gives the structure."""
    return flax.serialization.from_state_dict(like, model | training)
