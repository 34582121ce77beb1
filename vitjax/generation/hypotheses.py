"""Common parts of greedy search, beam search and sampling: options, result, first step, probabilities."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Float, Int

from vitjax.errors import UserError
from vitjax.layers.arrays import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """The options of all search methods. They are static: each set of options is compiled once.

    Attributes:
      max_length: maximum number of generated tokens T, including the end-of-sentence token.
      bos: the token that the decoder starts from.
      eos: the token that ends a sentence.
      pad: fills the positions after the end of a sentence.
      suppress: tokens that are never generated.
      forced_eos: whether a sentence that has not ended at `max_length` gets the end-of-sentence token
        there, with probability 1, instead of being cut off.
      renormalise: whether the probability of suppressed tokens is shared by the others, or lost.

    Raises:
      UserError: `max_length` is less than 1.
    """

    max_length: int
    bos: int
    eos: int
    pad: int = 0
    suppress: tuple[int, ...] = ()
    forced_eos: bool = False
    renormalise: bool = True

    def __post_init__(self):
        if self.max_length < 1:
            raise UserError(f'max_length is {self.max_length}: generate at least 1 token')


def generation_options(
    options: GenerationOptions | None, fields: dict[str, Any]
) -> GenerationOptions:
    """The options of a call: given as an object, or as its fields by keyword."""
    if options is None:
        return GenerationOptions(**fields)
    return dataclasses.replace(options, **fields)


class Hypotheses(NamedTuple):
    """Target sequences, n for each of B sources, the best first.

    Attributes:
      tokens: [B, n, T] int32, without the start token. The end-of-sentence token is included; after it
        comes padding. A sequence without one was cut off at T, the `max_length`.
      lengths: [B, n] int32, tokens before the padding, including the end-of-sentence token.
      log_probabilities: [B, n] float32, the sum of the model's log-probabilities of these tokens.
      scores: [B, n] float32, by which they are ranked: log-probabilities over the length penalty.

    If fewer than n sequences exist, the rest have length 0 and score -inf.
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probabilities: jax.Array
    scores: jax.Array


def replicate(hypotheses: Hypotheses) -> Hypotheses:
    """Replicates the hypotheses on all devices of the mesh, so that every host can read them."""
    if jax.sharding.get_abstract_mesh().empty:
        return hypotheses
    return jax.lax.with_sharding_constraint(hypotheses, jax.sharding.PartitionSpec())


def prefill(
    model: nn.Module,
    variables: Any,
    source: Int[Array, 'B S'],
    source_mask: Bool[Array, 'B S'] | None,
    options: GenerationOptions,
) -> Any:
    """Encodes the source and returns the model's cache for `options.max_length` target tokens."""
    if source_mask is None:
        source_mask = source != options.pad
    encoded = model.apply(variables, source, source_mask, method='encode')  # [B, S, D]
    return model.apply(
        variables, encoded, source_mask, max_length=options.max_length, method='prefill'
    )


def log_softmax(
    logits: Float[Array, 'B V'], is_last: Bool[Array, ''], options: GenerationOptions
) -> Float[jax.Array, 'B V']:
    """Log-probabilities of the next token, without suppressed tokens.

    Args:
      logits: float32.
      is_last: whether this is token number `max_length`.
      options: of the search.
    """
    tokens = np.arange(logits.shape[-1])
    suppressed = np.isin(tokens, options.suppress)
    if options.renormalise:
        result = jax.nn.log_softmax(jnp.where(suppressed, -jnp.inf, logits))
    else:
        result = jnp.where(suppressed, -jnp.inf, jax.nn.log_softmax(logits))
    if options.forced_eos:
        only_eos = jnp.where(tokens == options.eos, 0.0, -jnp.inf)
        result = jnp.where(is_last, only_eos, result)
    return result
