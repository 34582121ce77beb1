"""Greedy search and sampling: one hypothesis per sentence."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from vitjax.errors import UserError
from vitjax.generation.hypotheses import (
    GenerationOptions,
    Hypotheses,
    generation_options,
    log_softmax,
    prefill,
    replicate,
)
from vitjax.layers.arrays import Array


class _State(NamedTuple):
    length: jax.Array  # scalar: tokens generated so far
    current: jax.Array  # [B], the newest of them
    ended: jax.Array  # [B] bool
    tokens: jax.Array  # [B, T]
    lengths: jax.Array  # [B]
    log_probabilities: jax.Array  # [B]
    cache: Any


def greedy(
    model: nn.Module,
    variables: Any,
    source: Int[Array, 'B S'],
    source_mask: Bool[Array, 'B S'] | None = None,
    *,
    options: GenerationOptions | None = None,
    **fields: Any,
) -> Hypotheses:
    """Generates the most probable token at each step, until every sentence has ended.

    Compiled once for each model, shape of the source and set of options, unless it is called inside
    another `jax.jit`.

    Args:
      model: an encoder-decoder as `vitjax.generation` describes.
      variables: its parameters.
      source: [B, S] int32.
      source_mask: [B, S] bool, False at padding; by default where the source is `pad`.
      options: max_length, bos, eos and so on.
      fields: the fields of `GenerationOptions` as keyword arguments, in place of `options`.

    Returns:
      Hypotheses with n = 1, whose scores are the log-probabilities.

    Raises:
      UserError: `max_length` is less than 1.
    """
    options = generation_options(options, fields)
    return _greedy(model, variables, source, source_mask, options=options)


@functools.partial(jax.jit, static_argnames=('model', 'options'))
def _greedy(model, variables, source, source_mask, *, options) -> Hypotheses:
    def choose(log_probabilities, length):
        return log_probabilities.argmax(axis=-1)

    return _generate(choose, model, variables, source, source_mask, options)


def sample(
    model: nn.Module,
    variables: Any,
    source: Int[Array, 'B S'],
    source_mask: Bool[Array, 'B S'] | None = None,
    *,
    rng: PRNGKeyArray,
    options: GenerationOptions | None = None,
    temperature: float | Float[Array, ''] = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    **fields: Any,
) -> Hypotheses:
    """Draws each token from the model's distribution, until every sentence has ended.

    A result depends on `rng`, the row and its source, not on the rest of the batch. For several samples of
    a sentence, repeat it in the batch.

    Args:
      model, variables, source, source_mask, options, fields: see `greedy`.
      rng: a key of `jax.random`.
      temperature: divides the log-probabilities before sampling; 0 is greedy. Must be at least 0, which
        is not checked, because it may be a traced value.
      top_k: draw from the k most probable tokens.
      top_p: draw from the smallest set of the most probable tokens whose probability is at least p,
        after temperature and top_k (nucleus sampling, Holtzman et al. 2020, section 3.1).

    Returns:
      Hypotheses with n = 1, whose scores are the log-probabilities under the model itself, that is
      with temperature 1 and all tokens.

    Raises:
      UserError: `max_length`, `top_k` or `top_p` is out of its range.
    """
    if top_k is not None and top_k < 1:
        raise UserError(f'top_k is {top_k}: draw from at least 1 token')
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f'top_p is {top_p}: it is a probability above 0 and at most 1')
    return _sample(
        model,
        variables,
        source,
        source_mask,
        rng=rng,
        options=generation_options(options, fields),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )


@functools.partial(jax.jit, static_argnames=('model', 'options', 'top_k', 'top_p'))
def _sample(
    model, variables, source, source_mask, *, rng, options, temperature, top_k, top_p
) -> Hypotheses:
    keys = jax.vmap(lambda row: jax.random.fold_in(rng, row))(jnp.arange(len(source)))

    def choose(log_probabilities, length):
        vocabulary = log_probabilities.shape[-1]
        tokens = None
        if top_k is not None or top_p is not None:
            k = min(top_k or vocabulary, vocabulary)
            log_probabilities, tokens = jax.lax.top_k(log_probabilities, k)  # [B, k]
        if top_p is not None:
            # `before` is 0 for the most probable token, so it is always kept.
            mass = jax.nn.softmax(log_probabilities / jnp.maximum(temperature, 1e-6))
            before = jnp.cumsum(mass, axis=-1) - mass
            log_probabilities = jnp.where(before < top_p, log_probabilities, -jnp.inf)
        # Gumbel-max: the argmax of log-probabilities plus Gumbel noise is a sample. Multiplying the noise
        # by the temperature replaces the division of the log-probabilities, also at temperature 0.
        noise = jax.vmap(
            lambda key: jax.random.gumbel(
                jax.random.fold_in(key, length), log_probabilities.shape[1:]
            )
        )(keys)
        choice = (log_probabilities + temperature * noise).argmax(axis=-1)
        return choice if tokens is None else _at(tokens, choice)

    return _generate(choose, model, variables, source, source_mask, options)


def _generate(
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    model: nn.Module,
    variables: Any,
    source: Int[Array, 'B S'],
    source_mask: Bool[Array, 'B S'] | None,
    options: GenerationOptions,
) -> Hypotheses:
    """Generates the tokens that `choose(log-probabilities [B, V], length)` -> [B] returns."""
    batch = len(source)

    def unfinished(state):
        return (state.length < options.max_length) & ~state.ended.all()

    def step(state):
        logits, cache = model.apply(
            variables, state.current[:, None], state.cache, method='decode_step'
        )
        log_probabilities = log_softmax(
            logits[:, 0], state.length + 1 == options.max_length, options
        )  # [B, V]
        chosen = choose(log_probabilities, state.length)
        current = jnp.where(state.ended, options.pad, chosen)
        gained = jnp.where(state.ended, 0.0, _at(log_probabilities, chosen))
        return _State(
            length=state.length + 1,
            current=current,
            ended=state.ended | (current == options.eos),
            tokens=state.tokens.at[:, state.length].set(current),
            lengths=state.lengths + ~state.ended,
            log_probabilities=state.log_probabilities + gained,
            cache=cache,
        )

    start = _State(
        length=jnp.int32(0),
        current=jnp.full(batch, options.bos, jnp.int32),
        ended=jnp.zeros(batch, bool),
        tokens=jnp.full((batch, options.max_length), options.pad, jnp.int32),
        lengths=jnp.zeros(batch, jnp.int32),
        log_probabilities=jnp.zeros(batch),
        cache=prefill(model, variables, source, source_mask, options),
    )
    end = jax.lax.while_loop(unfinished, step, start)
    log_probabilities = end.log_probabilities[:, None]
    return replicate(
        Hypotheses(end.tokens[:, None], end.lengths[:, None], log_probabilities, log_probabilities)
    )


def _at(values, index):
    """Entry `index` [B] of each row of values [B, n]."""
    return jnp.take_along_axis(values, index[:, None], axis=1)[:, 0]
