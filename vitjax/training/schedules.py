"""Learning rates over a run: linear warm-up from 0, a body, linear cool-down to 0.

A body is a function `(step, length) -> fraction of the peak`, where `step` counts from the end of
the warm-up and `length` is the number of steps between warm-up and cool-down. It starts at 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from vitjax.config import Count, Fraction, signature
from vitjax.errors import UserError, unknown

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
    config: ml_collections.ConfigDict, peak: float, *, total: int, warmup: int, cooldown: int
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """The learning rate as a function of the step: float32 [], inside `jit` or outside.

    With a warm-up, it is 0 at step 0 and `peak` at step `warmup`. With a cool-down, it falls from
    what the body has at step `total - cooldown` to 0 at step `total`, just after the last update;
    'cosine' and 'linear' then need a `final` above 0, without which they are at 0 already.

    Args:
      config: `config.schedule`; its durations are not read, since they may not be in steps.
      peak: the greatest learning rate.
      total: steps of the run.
      warmup: steps of the linear rise from 0.
      cooldown: steps of the linear fall to 0.

    Raises:
      UserError: an unknown name, or warm-up and cool-down that are longer than the run.
    """
    if config.name not in SCHEDULES:
        raise unknown('schedule', config.name, SCHEDULES)
    if warmup + cooldown > total:
        raise UserError(
            f'config.schedule: warmup ({warmup} steps) and cooldown ({cooldown} steps) do not fit '
            f'into a run of {total} steps; shorten them, or train longer'
        )
    kind = SCHEDULES[config.name]
    body = kind(**{name: config[name] for name in signature(kind)})
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
