"""What greedy, beam search and sampling share: their result, their first step, their probabilities."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.errors import UserError

# Arguments of every way to generate that are part of what is compiled.
STATIC = ('model', 'max_length', 'bos', 'eos', 'pad', 'suppress', 'forced_eos', 'renormalise')


class Hypotheses(NamedTuple):
    """Target sequences, n for each of B sources, the best first.

    Attributes:
      tokens: [B, n, T] int32, without the token that started them. The end-of-sentence token is kept;
        after it all is padding. A sequence without one was cut off at T, the `max_length`.
      lengths: [B, n] int32, tokens before the padding, so the end-of-sentence token counts.
      log_probabilities: [B, n] float32, the sum over these tokens of the model's log-probability.
      scores: [B, n] float32, what they are ranked by: log-probabilities over the length penalty.

    Where fewer sequences exist than were asked for, the rest have length 0 and score -inf.
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probabilities: jax.Array
    scores: jax.Array


def whole(found: Hypotheses) -> Hypotheses:
    """The same on all devices, so that every host can read it."""
    if jax.sharding.get_abstract_mesh().empty:
        return found
    return jax.lax.with_sharding_constraint(found, jax.sharding.PartitionSpec())


def prefill(
    model: nn.Module,
    variables: Any,
    source: jax.Array,
    source_mask: jax.Array | None,
    *,
    max_length: int,
    pad: int,
) -> Any:
    """Encodes the source [B, S]; returns the model's cache, with room for `max_length` target tokens."""
    if max_length < 1:
        raise UserError(f'max_length is {max_length}: generate at least 1 token')
    if source_mask is None:
        source_mask = source != pad
    encoded = model.apply(variables, source, source_mask, method='encode')  # [B, S, D]
    return model.apply(variables, encoded, source_mask, max_length=max_length, method='prefill')


def log_softmax(
    logits: jax.Array,
    last: jax.Array,
    *,
    eos: int,
    suppress: tuple[int, ...],
    forced_eos: bool,
    renormalise: bool,
) -> jax.Array:
    """Log-probabilities [B, V] of the next token over those that may come.

    Args:
      logits: [B, V] float32.
      last: bool scalar, whether `max_length` leaves room for this token alone.
      eos, suppress, forced_eos, renormalise: see `vitjax.generation.greedy`.
    """
    tokens = np.arange(logits.shape[-1])
    hidden = np.isin(tokens, suppress)
    if renormalise:
        found = jax.nn.log_softmax(jnp.where(hidden, -jnp.inf, logits))
    else:
        found = jnp.where(hidden, -jnp.inf, jax.nn.log_softmax(logits))
    if forced_eos:
        found = jnp.where(last, jnp.where(tokens == eos, 0.0, -jnp.inf), found)
    return found
