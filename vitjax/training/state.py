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
      averaged_state: their average; an empty dict without one, or without such collections.
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
    averaged_state: Any
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

        def average_of(tree):
            # A copy: the step donates its state, and no buffer can be given away twice.
            return jax.tree.map(jnp.copy, tree) if average else {}

        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            averaged=average_of(params),
            model_state=model_state,
            averaged_state=average_of(model_state),
            opt_state=optimizer.init(params),
            metrics={name: jnp.zeros(2) for name in metric_names},
            skipped_examples=jnp.zeros((), jnp.int32),
            skipped_updates=jnp.zeros((), jnp.int32),
            first_nonfinite=jnp.full((), -1, jnp.int32),
        )

    @property
    def variables(self) -> dict[str, Any]:
        """What is evaluated and used later: the averages if there are any."""
        params, model_state = self.params, self.model_state
        if self.averaged:
            params, model_state = self.averaged, self.averaged_state
        return {'params': params, **model_state}


def split_state(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """A state as a checkpoint holds it: what later use needs, and what only a resumed run needs."""
    parts = flax.serialization.to_state_dict(state)
    model = {name: parts.pop(name) for name in ('params', 'averaged', 'model_state')}
    # Checkpoints of models without such collections do not know the name.
    if averaged_state := parts.pop('averaged_state'):
        model['averaged_state'] = averaged_state
    return model, parts


def join_state(like: TrainState, model: dict[str, Any], training: dict[str, Any]) -> TrainState:
    """The inverse of `split_state`; `like` gives the structure."""
    return flax.serialization.from_state_dict(like, {'averaged_state': {}} | model | training)
