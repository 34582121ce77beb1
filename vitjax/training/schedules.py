"""Learning rates over a run: linear warm-up from 0, a body, linear cool-down to 0.

A body is a function `(step, length) -> fraction of the peak`, where `step` counts from the end of
the warm-up and `length` is the number of steps between warm-up and cool-down. It starts at 1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vitjax import registry
from vitjax.config import Count, Fraction, Optimizer
from vitjax.errors import UserError

Body = Callable[[jax.Array, int], jax.Array]


def constant() -> Body:
    """The peak all along."""
    return lambda step, length: jnp.ones_like(step)


def cosine(final: Fraction = 0.0) -> Body:
    """Half a cosine from the peak to `final` of it (Loshchilov and Hutter, 2017; no restarts)."""
    return lambda step, length: final + (1 - final) * (1 + jnp.cos(jnp.pi * step / length)) / 2


def linear(final: Fraction = 0.0) -> Body:
    """A straight line from the peak to `final` of it."""
    return lambda step, length: 1 - (1 - final) * step / length


def rsqrt(timescale: Count = 10_000) -> Body:
    """Reciprocal square root of the steps (Zhai et al., "Scaling Vision Transformers", 2022, 3.5).

    It does not depend on the length of the run: one run can be cooled down at several lengths.
    """
    return lambda step, length: jax.lax.rsqrt(1 + step / timescale)


SCHEDULES = {'constant': constant, 'cosine': cosine, 'linear': linear, 'rsqrt': rsqrt}


def create(
    config: Mapping[str, Any], peak: float, *, total: int, warmup: int, cooldown: int
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """The learning rate as a function of the step: float32 [], inside `jit` or outside.

    With a warm-up, it is 0 at step 0 and `peak` at step `warmup`. With a cool-down, it falls from
    what the body has at step `total - cooldown` to 0 at step `total`, just after the last update;
    'cosine' and 'linear' then need a `final` above 0, without which they are at 0 already.

    Args:
      config: `config.schedule`; its durations are not read, since they may not be in steps. An import path
        names a function that returns the whole schedule, an optax one; `total_steps` and `peak` are given
        where it has such arguments, and `warmup` and `cooldown`, in steps.
      peak: the greatest learning rate.
      total: steps of the run.
      warmup: steps of the linear rise from 0.
      cooldown: steps of the linear fall to 0.

    Raises:
      UserError: an unknown name, or warm-up and cool-down that are longer than the run; or a key that has
        no effect on a schedule of one's own.
    """
    kind = registry.find('schedule', config['name'])
    keys = {key: x for key, x in config.items() if key not in ('name', 'warmup', 'cooldown')}
    if registry.is_import_path(config['name']):
        return _own(config['name'], kind, keys, peak, total, warmup, cooldown)
    if warmup + cooldown > total:
        raise UserError(
            f'config.schedule: warmup ({warmup} steps) and cooldown ({cooldown} steps) do not fit '
            f'into a run of {total} steps; shorten them, or train longer'
        )
    body = kind(**keys)
    length = total - warmup - cooldown

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        # Held at its ends by the clip, the body is a constant factor in warm-up and cool-down.
        rate = peak * body(jnp.clip(step - warmup, 0, length), max(length, 1))
        if warmup:
            rate *= jnp.clip(step / warmup, 0, 1)
        if cooldown:
            rate *= jnp.clip((total - step) / cooldown, 0, 1)
        return rate

    return schedule


def _own(
    name: str,
    kind: Callable[..., Any],
    keys: Mapping[str, Any],
    peak: float,
    total: int,
    warmup: int,
    cooldown: int,
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """The schedule of a function of one's own; UserError for a key that would have no effect on it."""
    accepted = registry.parameters(kind)
    for key, steps in (('warmup', warmup), ('cooldown', cooldown)):
        if steps and key not in accepted:
            raise UserError(
                f'config.schedule.{key} has no effect on {name!r}, which has no such argument'
            )
    if 'peak' not in accepted and peak != Optimizer().learning_rate:
        raise UserError(
            f'config.optimizer.learning_rate has no effect with the schedule {name!r}, which returns the '
            "learning rate itself; give it an argument 'peak' to take it from there"
        )
    try:
        schedule = registry.call(
            kind, keys, total_steps=total, peak=peak, warmup=warmup, cooldown=cooldown
        )
    except (TypeError, ValueError) as error:
        raise UserError(f'config.schedule: {name}: {error}') from error
    if not callable(schedule):
        raise UserError(
            f'config.schedule: {name} returned {type(schedule).__name__}, not an optax schedule'
        )
    return lambda step: jnp.asarray(schedule(step), jnp.float32)
