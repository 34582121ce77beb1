"""Beam search."""

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.errors import UserError, unknown
from vitjax.generation.hypotheses import STATIC, Hypotheses, log_softmax, prefill, whole

Normalisation = Literal['gnmt', 'power']
EarlyStop = Literal['exact', 'estimate', 'full']


class _State(NamedTuple):
    length: jax.Array  # scalar: tokens written so far
    current: jax.Array  # [B, K], the newest of them
    tokens: jax.Array  # [B, K, T], of the live hypotheses, the best first
    log_probabilities: jax.Array  # [B, K]
    finished: Hypotheses  # the best that have ended
    open: jax.Array  # [B] bool: whether a live hypothesis could still come among them
    cache: Any  # of B * K rows


@functools.partial(
    jax.jit,
    static_argnames=(
        *STATIC,
        *('beam_size', 'n_best', 'length_penalty', 'length_normalisation', 'early_stop'),
    ),
)
def beam_search(
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
    beam_size: int = 4,
    n_best: int = 1,
    length_penalty: float = 0.6,
    length_normalisation: Normalisation = 'gnmt',
    early_stop: EarlyStop = 'exact',
) -> Hypotheses:
    """The best sequences that a search of limited width finds.

    Each time the K live hypotheses of a sentence are continued with every token and the 2K most
    probable results are candidates: K of them at least have not ended and the best K of these live
    on. Those among the first K that have ended, or reached `max_length`, are finished. These are the
    rules of transformers' `generate`, whose results are the same with `length_normalisation='power'`,
    one token less of `max_length` (which there counts the first) and its `renormalize_logits`.

    Args:
      model, variables, source, source_mask, max_length, bos, eos, pad, suppress, forced_eos,
        renormalise: see `vitjax.generation.greedy`.
      beam_size: live hypotheses K of a sentence.
      n_best: how many of the finished ones to return, at most K.
      length_penalty: alpha; the higher, the longer the sentences that win (if above 0).
      length_normalisation: a finished hypothesis scores its log-probability divided by
        'gnmt': ((5 + length) / 6) ** alpha (Wu et al. 2016, equation 14), or
        'power': length ** alpha.
      early_stop: when a sentence is done before its live hypotheses end.
        'exact': when none of them can come among the `n_best`, whatever its length will be: the
          result is that of searching to the end.
        'estimate': when K are finished and the best live one, scored as if it ended now, is no
          better than the worst of these (transformers' `early_stopping=False`).
        'full': as soon as K are finished (`early_stopping=True`).

    Returns:
      Hypotheses with n = n_best.

    Raises:
      UserError: for an option that is out of its range.
    """
    for name, word, words in (
        ('length_normalisation', length_normalisation, Normalisation),
        ('early_stop', early_stop, EarlyStop),
    ):
        if word not in get_args(words):
            raise unknown(name, word, get_args(words))
    if not 1 <= n_best <= beam_size:
        raise UserError(
            f'n_best is {n_best} with beam_size {beam_size}: from 1 up to beam_size can be had'
        )
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
        following = log_softmax(
            logits[:, 0],
            last,
            eos=eos,
            suppress=suppress,
            forced_eos=forced_eos,
            renormalise=renormalise,
        )  # [B * K, V]
        total = state.log_probabilities[..., None] + following.reshape(batch, beams, -1)
        total, best = _top_k(total.reshape(batch, -1), 2 * beams)  # [B, 2K]
        parents, current = jnp.divmod(best, following.shape[-1])
        tokens = _pick(state.tokens, parents).at[:, :, state.length].set(current)  # [B, 2K, T]
        ends = (current == eos) | last

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

    cache = prefill(model, variables, source, source_mask, max_length=max_length, pad=pad)
    none = Hypotheses(
        tokens=jnp.full((batch, kept, max_length), pad, jnp.int32),
        lengths=jnp.zeros((batch, kept), jnp.int32),
        log_probabilities=jnp.full((batch, kept), -jnp.inf),
        scores=jnp.full((batch, kept), -jnp.inf),
    )
    start = _State(
        length=jnp.int32(0),
        current=jnp.full((batch, beams), bos, jnp.int32),
        tokens=jnp.full((batch, beams, max_length), pad, jnp.int32),
        # All start alike, so only the first counts.
        log_probabilities=jnp.full((batch, beams), -jnp.inf).at[:, 0].set(0.0),
        finished=none,
        open=jnp.ones(batch, bool),
        cache=cache.repeat(beams),
    )
    finished = jax.lax.while_loop(unfinished, step, start).finished
    return whole(jax.tree.map(lambda x: x[:, :n_best], finished))


def _top_k(values, k):
    """`jax.lax.top_k`, behind barriers: where XLA sees slices of the result, it sorts all values.

    One barrier for both arrays would end the process on several devices of which none has a part.
    """
    return [jax.lax.optimization_barrier(x) for x in jax.lax.top_k(values, k)]


def _pick(tree, index):
    """Entries `index` [B, n] of the second axis of every array [B, m, ...]."""
    return jax.tree.map(
        lambda x: jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), axis=1),
        tree,
    )
