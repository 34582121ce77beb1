"""Beam search."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Int

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
from vitjax.layers.choices import check_choice


class _State(NamedTuple):
    length: jax.Array  # scalar: tokens generated so far
    current: jax.Array  # [B, K], the newest of them
    tokens: jax.Array  # [B, K, T], of the live hypotheses, the best first
    log_probabilities: jax.Array  # [B, K]
    finished: Hypotheses  # the best that have ended
    open: jax.Array  # [B] bool: whether a live hypothesis can still become one of `finished`
    cache: Any  # of B * K rows


def beam_search(
    model: nn.Module,
    variables: Any,
    source: Int[Array, 'B S'],
    source_mask: Bool[Array, 'B S'] | None = None,
    *,
    options: GenerationOptions | None = None,
    beam_size: int = 4,
    n_best: int = 1,
    length_penalty: float = 0.6,
    length_normalisation: str = 'gnmt',
    early_stop: str = 'exact',
    **fields: Any,
) -> Hypotheses:
    """Beam search: the best sequences among those reached from K live hypotheses per sentence.

    At each step the K live hypotheses of a sentence are extended by every token, and the 2K most probable
    extensions are candidates. At least K of them have not ended, and the best K of these stay live.
    Candidates among the first K that have ended, or reached `max_length`, are finished.

    These are the rules of transformers' `generate`. It gives the same results with
    `length_normalisation='power'`, `renormalize_logits`, and a `max_length` larger by one, because it
    counts the start token.

    Args:
      model, variables, source, source_mask, options, fields: see `vitjax.generation.greedy`.
      beam_size: live hypotheses K of a sentence.
      n_best: number of finished hypotheses to return, at most K.
      length_penalty: alpha; larger values favour longer sentences.
      length_normalisation: the score of a finished hypothesis is its log-probability divided by
        'gnmt': ((5 + length) / 6) ** alpha (Wu et al. 2016, equation 14), or
        'power': length ** alpha.
      early_stop: when the search of a sentence stops before its live hypotheses end.
        'exact': when no live hypothesis can become one of the `n_best`, at any length. The result equals
          that of searching to the end.
        'estimate': when K are finished and the best live one, scored at its current length, is not
          better than the worst of them (transformers' `early_stopping=False`).
        'full': as soon as K are finished (`early_stopping=True`).

    Returns:
      Hypotheses with n = n_best.

    Raises:
      UserError: an option is out of its range.
    """
    check_choice('length_normalisation', length_normalisation, ('gnmt', 'power'))
    check_choice('early_stop', early_stop, ('exact', 'estimate', 'full'))
    if not 1 <= n_best <= beam_size:
        raise UserError(
            f'n_best is {n_best} with beam_size {beam_size}: it must be from 1 to beam_size'
        )
    return _beam_search(
        model,
        variables,
        source,
        source_mask,
        options=generation_options(options, fields),
        beam_size=beam_size,
        n_best=n_best,
        length_penalty=length_penalty,
        length_normalisation=length_normalisation,
        early_stop=early_stop,
    )


@functools.partial(
    jax.jit,
    static_argnames=(
        *('model', 'options', 'beam_size', 'n_best'),
        *('length_penalty', 'length_normalisation', 'early_stop'),
    ),
)
def _beam_search(
    model,
    variables,
    source,
    source_mask,
    *,
    options,
    beam_size,
    n_best,
    length_penalty,
    length_normalisation,
    early_stop,
) -> Hypotheses:
    max_length = options.max_length
    batch, beams = len(source), beam_size
    kept = n_best if early_stop == 'exact' else beams
    lengths = np.arange(max_length + 1)
    bases = (5 + lengths) / 6 if length_normalisation == 'gnmt' else np.maximum(lengths, 1)
    penalties = jnp.asarray(bases**length_penalty, jnp.float32)  # [T + 1], by length

    def unfinished(state):
        return (state.length < max_length) & state.open.any()

    def step(state):
        logits, cache = model.apply(
            variables, state.current.reshape(-1, 1), state.cache, method='decode_step'
        )
        length = state.length + 1
        last = length == max_length
        following = log_softmax(logits[:, 0], last, options)  # [B * K, V]
        total = state.log_probabilities[..., None] + following.reshape(batch, beams, -1)
        total, best = _top_k(total.reshape(batch, -1), 2 * beams)  # [B, 2K]
        parents, current = jnp.divmod(best, following.shape[-1])
        tokens = _pick(state.tokens, parents).at[:, :, state.length].set(current)  # [B, 2K, T]
        ends = (current == options.eos) | last

        first = total[:, :beams]  # [B, K]
        accepted = ends[:, :beams] & state.open[:, None]
        ended = Hypotheses(
            tokens=tokens[:, :beams],
            lengths=jnp.broadcast_to(length, first.shape),
            log_probabilities=first,
            scores=jnp.where(accepted, first / penalties[length], -jnp.inf),
        )
        # Of equal scores top_k takes the first, so an empty place is never filled with -inf.
        both = jax.tree.map(lambda *two: jnp.concatenate(two, axis=1), state.finished, ended)
        finished = _pick(both, jax.lax.top_k(both.scores, kept)[1])

        alive, best = jax.lax.top_k(jnp.where(ends, -jnp.inf, total), beams)  # [B, K]
        parents, current, tokens = _pick((parents, current, tokens), best)
        rows = parents + beams * jnp.arange(batch)[:, None]

        worst = finished.scores[:, -1]
        if early_stop == 'full':
            possible = worst == -jnp.inf
        else:
            divisor = penalties[length]
            if early_stop == 'exact':
                # Log-probabilities are negative and only fall: the largest divisor is the best case.
                divisor = jnp.maximum(divisor, penalties[max_length])
            possible = alive[:, 0] / divisor > worst
        return _State(
            length=length,
            current=current,
            tokens=tokens,
            log_probabilities=alive,
            finished=finished,
            open=state.open & possible,
            cache=cache.take(rows.reshape(-1)),
        )

    cache = prefill(model, variables, source, source_mask, options)
    none = Hypotheses(
        tokens=jnp.full((batch, kept, max_length), options.pad, jnp.int32),
        lengths=jnp.zeros((batch, kept), jnp.int32),
        log_probabilities=jnp.full((batch, kept), -jnp.inf),
        scores=jnp.full((batch, kept), -jnp.inf),
    )
    start = _State(
        length=jnp.int32(0),
        current=jnp.full((batch, beams), options.bos, jnp.int32),
        tokens=jnp.full((batch, beams, max_length), options.pad, jnp.int32),
        # All live hypotheses start equal, so only the first may be extended.
        log_probabilities=jnp.full((batch, beams), -jnp.inf).at[:, 0].set(0.0),
        finished=none,
        open=jnp.ones(batch, bool),
        cache=cache.repeat(beams),
    )
    finished = jax.lax.while_loop(unfinished, step, start).finished
    return replicate(jax.tree.map(lambda x: x[:, :n_best], finished))


def _top_k(values, k):
    """`jax.lax.top_k` with optimization barriers: without them XLA sorts all values if slices are used.

    One barrier for both arrays would crash on several devices with replicated values.
    """
    return [jax.lax.optimization_barrier(x) for x in jax.lax.top_k(values, k)]


def _pick(tree, index):
    """Entries `index` [B, n] of the second axis of every array [B, m, ...]."""
    return jax.tree.map(
        lambda x: jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1),
        tree,
    )
