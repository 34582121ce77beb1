"""One hypothesis a sentence: the most probable token each time, or a random one."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.errors import UserError
from vitjax.generation.hypotheses import STATIC, Hypotheses, log_softmax, prefill, whole


class _State(NamedTuple):
    length: jax.Array  # scalar: tokens written so far
    current: jax.Array  # [B], the newest of them
    ended: jax.Array  # [B] bool
    tokens: jax.Array  # [B, T]
    lengths: jax.Array  # [B]
    log_probabilities: jax.Array  # [B]
    cache: Any


@functools.partial(jax.jit, static_argnames=STATIC)
def greedy(
    model: nn.Module,
    variables: Any,
    source: jax.Array,
    source_mask: jax.Array | None = None,
    *,
    max_length: int,
    bos: int,
    eos: int,
    pad: int = 0,
    suppress: tuple[int, ...] = (),
    forced_eos: bool = False,
    renormalise: bool = True,
) -> Hypotheses:
    """The most probable token each time, until every sentence has ended.

    Compiled once for each model, shape of the source and set of options; within another `jax.jit`
    it is part of that.

    Args:
      model: an encoder-decoder as `vitjax.generation` describes.
      variables: its parameters.
      source: [B, S] int32.
      source_mask: [B, S] bool, False at padding; by default where the source is `pad`.
      max_length: at most so many tokens T are written, the end-of-sentence token among them.
      bos: the token that the decoder starts from.
      eos: the token that ends a sentence.
      pad: fills up what comes after it.
      suppress: tokens that are never written.
      forced_eos: whether a sentence that has not ended ends at `max_length`, with a token of
        probability 1, and is not cut off.
      renormalise: whether the probability of suppressed tokens is shared by the others, or lost.

    Returns:
      Hypotheses with n = 1, whose scores are the log-probabilities.

    Raises:
      UserError: if `max_length` is less than 1.
    """
    return _generate(
        lambda log_probabilities, length: log_probabilities.argmax(axis=-1),
        model,
        variables,
        source,
        source_mask,
        max_length=max_length,
        bos=bos,
        eos=eos,
        pad=pad,
        suppress=suppress,
        forced_eos=forced_eos,
        renormalise=renormalise,
    )


@functools.partial(jax.jit, static_argnames=(*STATIC, 'top_k', 'top_p'))
def sample(
    model: nn.Module,
    variables: Any,
    source: jax.Array,
    source_mask: jax.Array | None = None,
    *,
    rng: jax.Array,
    max_length: int,
    bos: int,
    eos: int,
    pad: int = 0,
    suppress: tuple[int, ...] = (),
    forced_eos: bool = False,
    renormalise: bool = True,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Hypotheses:
    """A random token each time, by the model's probabilities, until every sentence has ended.

    What a sentence becomes depends on `rng`, its row and itself, not on the rest of the batch. For
    several samples of a sentence repeat it.

    Args:
      model, variables, source, source_mask, max_length, bos, eos, pad, suppress, forced_eos,
        renormalise: see `greedy`.
      rng: a key of `jax.random`.
      temperature: divides the log-probabilities before they are drawn from; 0 is greedy. At least 0,
        which is not checked, for it may change without compiling again.
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
    keys = jax.vmap(lambda row: jax.random.fold_in(rng, row))(jnp.arange(len(source)))

    def choose(log_probabilities, length):
        vocabulary = log_probabilities.shape[-1]
        tokens = None
        if top_k is not None or top_p is not None:
            k = min(top_k or vocabulary, vocabulary)
            log_probabilities, tokens = jax.lax.top_k(log_probabilities, k)  # [B, k]
        if top_p is not None:
            # The most probable token has nothing before it, so it always stays.
            mass = jax.nn.softmax(log_probabilities / jnp.maximum(temperature, 1e-6))
            before = jnp.cumsum(mass, axis=-1) - mass
            log_probabilities = jnp.where(before < top_p, log_probabilities, -jnp.inf)
        # The largest of log-probabilities plus Gumbel noise is a draw from them; to scale the noise
        # up is to scale them down, and has no pole at temperature 0.
        noise = jax.vmap(
            lambda key: jax.random.gumbel(
                jax.random.fold_in(key, length), log_probabilities.shape[1:]
            )
        )(keys)
        choice = (log_probabilities + temperature * noise).argmax(axis=-1)
        return choice if tokens is None else _at(tokens, choice)

    return _generate(
        choose,
        model,
        variables,
        source,
        source_mask,
        max_length=max_length,
        bos=bos,
        eos=eos,
        pad=pad,
        suppress=suppress,
        forced_eos=forced_eos,
        renormalise=renormalise,
    )


def _generate(
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    model: nn.Module,
    variables: Any,
    source: jax.Array,
    source_mask: jax.Array | None,
    *,
    max_length: int,
    bos: int,
    eos: int,
    pad: int,
    suppress: tuple[int, ...],
    forced_eos: bool,
    renormalise: bool,
) -> Hypotheses:
    """Writes the tokens that `choose(log-probabilities [B, V], length)` -> [B] picks."""
    batch = len(source)

    def unfinished(state):
        return (state.length < max_length) & ~state.ended.all()

    def step(state):
        logits, cache = model.apply(
            variables, state.current[:, None], state.cache, method='decode_step'
        )
        log_probabilities = log_softmax(
            logits[:, 0],
            state.length + 1 == max_length,
            eos=eos,
            suppress=suppress,
            forced_eos=forced_eos,
            renormalise=renormalise,
        )  # [B, V]
        chosen = choose(log_probabilities, state.length)
        current = jnp.where(state.ended, pad, chosen)
        gained = jnp.where(state.ended, 0.0, _at(log_probabilities, chosen))
        return _State(
            length=state.length + 1,
            current=current,
            ended=state.ended | (current == eos),
            tokens=state.tokens.at[:, state.length].set(current),
            lengths=state.lengths + ~state.ended,
            log_probabilities=state.log_probabilities + gained,
            cache=cache,
        )

    start = _State(
        length=jnp.int32(0),
        current=jnp.full(batch, bos, jnp.int32),
        ended=jnp.zeros(batch, bool),
        tokens=jnp.full((batch, max_length), pad, jnp.int32),
        lengths=jnp.zeros(batch, jnp.int32),
        log_probabilities=jnp.zeros(batch),
        cache=prefill(model, variables, source, source_mask, max_length=max_length, pad=pad),
    )
    end = jax.lax.while_loop(unfinished, step, start)
    log_probabilities = end.log_probabilities[:, None]
    return whole(
        Hypotheses(end.tokens[:, None], end.lengths[:, None], log_probabilities, log_probabilities)
    )


def _at(values, index):
    """Entry `index` [B] of each row of values [B, n]."""
    return jnp.take_along_axis(values, index[:, None], axis=1)[:, 0]
