"""Translation of texts: they are split, batched by length, translated, and joined in order."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Int

from vitjax.data.text import TextPreprocess
from vitjax.errors import UserError
from vitjax.generation.beam import beam_search
from vitjax.generation.hypotheses import GenerationOptions, Hypotheses
from vitjax.generation.sampling import greedy
from vitjax.layers.arrays import Array


class Translated(NamedTuple):
    """A translation and its score, which is 0 for an empty text.

    The score of greedy search is the log-probability; beam search divides it by the length penalty.
    """

    text: str
    score: float


def translate(
    model: nn.Module,
    variables: Any,
    preprocess: TextPreprocess,
    texts: Sequence[str],
    *,
    beam_size: int = 1,
    n_best: int = 1,
    batch_size: int = 32,
) -> list[list[Translated]]:
    """The `n_best` translations of each text, the best first.

    A text longer than the model's `max_length` is translated in parts, see `split`, and its n-th
    translation joins the n-th of each part. The translation of white space is ''.

    Args:
      preprocess: of the run or checkpoint that the model comes from.
      beam_size: 1 for greedy search.
      n_best: at most `beam_size`.
      batch_size: number of parts that are translated together.

    Raises:
      UserError: one of these is out of its range.
    """
    if not 1 <= n_best <= beam_size or batch_size < 1:
        raise UserError(
            f'n_best is {n_best}, beam_size {beam_size}, batch_size {batch_size}: n_best must be '
            'from 1 to beam_size, batch_size at least 1'
        )
    parts = [split(preprocess, text) if text.strip() else [] for text in texts]
    flat = [part for of_text in parts for part in of_text]
    found = iter(_in_batches(model, variables, preprocess, flat, beam_size, n_best, batch_size))
    translated = []
    for of_text in parts:
        of_parts = [next(found) for _ in of_text]
        ranks = ([best[rank] for best in of_parts] for rank in range(n_best))
        translated.append(
            [
                Translated(' '.join(part.text for part in one), sum(part.score for part in one))
                for one in ranks
            ]
        )
    return translated


def split(preprocess: TextPreprocess, text: str) -> list[str]:
    """Splits a text with more than `preprocess.max_length` tokens into parts that fit.

    The parts are its sentences. A sentence that is too long is halved between words, else at any character.
    """
    text = text.strip()
    prefix = preprocess.tokenizer.prefix(text)
    if prefix and preprocess.length(text) > preprocess.max_length:
        # The prefix, which names the target language, is repeated in each part.
        shorter = dataclasses.replace(
            preprocess, max_length=preprocess.max_length - preprocess.length(prefix)
        )
        return [f'{prefix} {part}' for part in split(shorter, text.removeprefix(prefix))]
    if preprocess.length(text) <= preprocess.max_length or len(text) < 2:
        return [text]
    parts = re.split(r'(?<=[.?!…])\s+', text)
    if len(parts) == 1:
        gaps = [match.end() for match in re.finditer(r'\s+', text)] or [len(text) // 2]
        middle = min(gaps, key=lambda place: abs(place - len(text) / 2))
        parts = [text[:middle], text[middle:]]
    return [short for part in parts for short in split(preprocess, part)]


def _in_batches(
    model, variables, preprocess, texts, beam_size, n_best, batch_size
) -> list[list[Translated]]:
    """Translations of texts that fit, in their order; texts of similar length share a batch."""
    order = sorted(range(len(texts)), key=lambda index: preprocess.length(texts[index]))
    translations: list[list[Translated]] = [[] for _ in texts]
    # To compile few shapes, batches are full, or for few texts have a power of two of rows.
    batch_size = min(batch_size, 1 << max(len(texts) - 1, 0).bit_length())
    for start in range(0, len(texts), batch_size):
        chosen = order[start : start + batch_size]
        source, mask = preprocess([texts[index] for index in chosen])  # [B, S]
        blank = [(0, batch_size - len(chosen)), (0, 0)]
        source, mask = np.pad(source, blank, mode='edge'), np.pad(mask, blank, mode='edge')
        hypotheses = jax.device_get(
            search(model, variables, preprocess, source, mask, beam_size, n_best)
        )
        for row, index in enumerate(chosen):
            decoded = preprocess.decode(hypotheses.tokens[row])
            scores = hypotheses.scores[row].tolist()
            translations[index] = list(map(Translated, decoded, scores))
    return translations


def search(
    model: nn.Module,
    variables: Any,
    preprocess: TextPreprocess,
    source: Int[Array, 'B S'],
    mask: Bool[Array, 'B S'],
    beam_size: int = 1,
    n_best: int = 1,
) -> Hypotheses:
    """Greedy or beam search with the options of the model's family (`preprocess.search`).

    A translation has at most twice as many tokens as the padded source.
    """
    rules = preprocess.search
    limits = [2 * source.shape[1], rules.longest]
    if model.positions == 'learned':
        limits.append(model.max_positions)
    suppress = rules.suppress
    if suppress is None:
        suppress = tuple(sorted({preprocess.bos, preprocess.pad} - {preprocess.eos}))
    options = GenerationOptions(
        max_length=min(limit for limit in limits if limit is not None),
        bos=preprocess.bos,
        eos=preprocess.eos,
        pad=preprocess.pad,
        suppress=suppress,
        forced_eos=rules.forced_eos,
        renormalise=rules.renormalise,
    )
    if beam_size == 1:
        return greedy(model, variables, source, mask, options=options)
    return beam_search(
        model,
        variables,
        source,
        mask,
        options=options,
        beam_size=beam_size,
        n_best=n_best,
        length_penalty=rules.length_penalty,
        length_normalisation=rules.length_normalisation,
        early_stop=rules.early_stop,
    )
