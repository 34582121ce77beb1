"""The training step and the evaluation step: pure functions, jitted once a run."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from vitjax.tasks.task import Task
from vitjax.training.state import TrainState

Batch = dict[str, jax.Array]


def make_train_step(
    model: nn.Module,
    task: Task,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule | None,
    *,
    seed: int,
    log_every: int,
    accumulate: int = 1,
    ema: float | None = None,
) -> Callable[[TrainState, Batch, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """One step of training: state, batch, frozen arrays of the task -> state, values for the log.

    The values are means since the last log, so that the log needs nothing but the newest ones. An
    update whose loss or gradient is not finite is never applied, and is counted.

    Args:
      seed: with the step and the example it decides everything random.
      log_every: steps from log to log.
      accumulate: micro-batches of a batch.
      ema: decay a step of the averaged parameters; None for none.
    """

    def gradients(params, model_state, averaged, batch, rng, frozen):
        def loss(params):
            metrics, new_state = task.metrics(
                model,
                with_frozen({'params': params, **model_state}, frozen),
                batch,
                rngs={'dropout': rng},
                train=True,
                averaged=with_frozen(averaged, frozen),
            )
            # A model whose collections do not change in training keeps them.
            return metrics['loss'][0], (metrics, {**model_state, **new_state})

        (_, (metrics, model_state)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return grads, metrics, model_state

    def accumulated(params, model_state, averaged, batch, rng, frozen):
        """Sums of gradients and metrics over the micro-batches of a batch."""
        if accumulate == 1:
            return gradients(params, model_state, averaged, batch, rng, frozen)

        def split(x):
            # Neighbours go to different micro-batches, so that each device keeps its own rows.
            x = x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1)
            return nn.with_logical_constraint(x, (None, 'batch', *(None,) * (x.ndim - 2)))

        def micro_step(carry, inputs):
            sums, model_state = carry
            micro_batch, index = inputs
            grads, metrics, model_state = gradients(
                params, model_state, averaged, micro_batch, jax.random.fold_in(rng, index), frozen
            )
            return (jax.tree.map(jnp.add, sums, (grads, metrics)), model_state), None

        micro_batches = jax.tree.map(split, batch)
        first = jax.tree.map(lambda x: x[0], micro_batches)
        shapes = jax.eval_shape(gradients, params, model_state, averaged, first, rng, frozen)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[:2])
        (sums, model_state), _ = jax.lax.scan(
            micro_step, (zeros, model_state), (micro_batches, jnp.arange(accumulate))
        )
        return *sums, model_state

    def train_step(state: TrainState, batch: Batch, frozen: Any = None):
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, metrics, model_state = accumulated(
            state.params, state.model_state, state.variables, batch, rng, frozen
        )
        total, count = metrics['loss']
        grads = jax.tree.map(lambda g: g / jnp.maximum(count, 1), grads)
        norm = optax.tree.norm(grads)
        metrics['gradient_norm'] = jnp.stack([norm, 1.0])
        if schedule is not None:
            # The optimizer does not count the updates that are left out, so they do not move the schedule.
            rate = schedule(state.step - state.skipped_updates)
            metrics['learning_rate'] = jnp.stack([jnp.float32(rate), 1.0])

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.isfinite(total) & jnp.isfinite(norm)
        params, opt_state, model_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, opt_state, model_state),
            (state.params, state.opt_state, state.model_state),
        )
        averages = state.averaged, state.averaged_state
        if state.averaged:
            # Early on the average follows closely, else it would hold the initial values for long.
            decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
            averages = optax.incremental_update((params, model_state), averages, 1 - decay)

        first_of_log = state.step % log_every == 0
        metrics = jax.tree.map(
            lambda new, old: jnp.where(finite, new, 0) + jnp.where(first_of_log, 0, old),
            metrics,
            state.metrics,
        )
        first_nonfinite = jnp.where(
            finite | (state.first_nonfinite >= 0), state.first_nonfinite, state.step + 1
        )
        state = state.replace(
            step=state.step + 1,
            params=params,
            averaged=averages[0],
            model_state=model_state,
            averaged_state=averages[1],
            opt_state=opt_state,
            metrics=metrics,
            skipped_examples=state.skipped_examples + jnp.sum(~batch['mask'], dtype=jnp.int32),
            skipped_updates=state.skipped_updates + ~finite,
            first_nonfinite=first_nonfinite,
        )
        # Not a number where nothing was counted, as when every update since the last log was left out.
        values = {name: total / count for name, (total, count) in metrics.items()}
        counters = ('skipped_examples', 'skipped_updates', 'first_nonfinite')
        return state, values | {name: getattr(state, name) for name in counters}

    return train_step


def with_frozen(variables: Mapping[str, Any], frozen: Any) -> dict[str, Any]:
    """The variables, and what a task keeps frozen, if there is any, as one more collection."""
    return dict(variables) if frozen is None else {**variables, 'frozen': frozen}


def make_eval_step(
    model: nn.Module, task: Task
) -> Callable[[dict[str, jax.Array], dict[str, Any], Batch, Any], dict[str, jax.Array]]:
    """One step of evaluation: sums so far, variables, batch, frozen -> sums, each [2], sum and count."""

    def eval_step(sums, variables, batch, frozen=None):
        variables = with_frozen(variables, frozen)
        metrics, _ = task.metrics(model, variables, batch, rngs={}, train=False)
        metrics['examples'] = jnp.stack([batch['mask'].sum(dtype=jnp.float32), 1.0])
        return jax.tree.map(jnp.add, sums, metrics)

    return eval_step
