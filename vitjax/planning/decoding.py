"""Decoding speed of a translation model, compared with transformers on the same weights."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax.errors import UserError
from vitjax.generation import GenerationOptions, beam_search, greedy
from vitjax.models.seq2seq import Transformer
from vitjax.planning.benchmark import median_and_spread, seconds_in_turn, versions
from vitjax.planning.peers import import_peer
from vitjax.pretrained.layouts.marian import write_model

TOKENS = 64  # length of each translation
BEAMS = 4
SOURCE = 32  # length of each source in tokens

_PAD, _EOS = 0, 1

Decoders = dict[str, Callable[[], np.ndarray]]


def compare_decoders(
    model: Transformer, variables: Mapping[str, Any], *, batch_size: int, rounds: int
) -> dict[str, Any]:
    """Measures tokens a second of greedy and beam search, in turn with transformers if possible.

    The sources are random tokens. Each translation has `TOKENS` tokens, because the end token is suppressed.

    Returns:
      `batch_size`, `tokens` and `beams`; `peer`: the versions of the compared packages, or why there is no
      comparison; and for 'greedy' and 'beam search' a dict with `tokens_per_second`. With a peer it also has
      `tokens_per_second_of_peer`, the `ratio` of ours to theirs within a round, and `same_tokens`, the
      fraction of equal tokens. Numbers are those of `vitjax.planning.benchmark.median_and_spread`.
    """
    rng = np.random.default_rng(0)
    vocabulary = model.source_vocab_size or model.vocab_size
    source = rng.integers(2, vocabulary, (batch_size, SOURCE)).astype(np.int32)
    ours = decoders(model, variables, source)
    theirs: Decoders = {}
    try:
        theirs = decoders_of_transformers(model, variables, source)
        peer = versions('transformers', 'torch')
    except UserError as error:
        peer = f'none: {error}'
    functions = {f'ours {name}': function for name, function in ours.items()}
    functions |= {f'theirs {name}': function for name, function in theirs.items()}
    tokens = {name: function() for name, function in functions.items()}
    seconds = seconds_in_turn(functions, rounds)
    count = batch_size * TOKENS
    results: dict[str, Any] = {
        'batch_size': batch_size,
        'tokens': TOKENS,
        'beams': BEAMS,
        'peer': peer,
    }
    for name in ours:
        mine, other = f'ours {name}', f'theirs {name}'
        results[name] = {'tokens_per_second': median_and_spread(count / seconds[mine])}
        if other in functions:
            results[name] |= {
                'tokens_per_second_of_peer': median_and_spread(count / seconds[other]),
                'ratio': median_and_spread(seconds[other] / seconds[mine]),
                'same_tokens': float((tokens[mine] == tokens[other]).mean()),
            }
    return results


def decoders(model: Transformer, variables: Mapping[str, Any], source: np.ndarray) -> Decoders:
    """'greedy' and 'beam search' -> a function that translates sources [B, S] to tokens [B, TOKENS]."""
    options = GenerationOptions(
        max_length=TOKENS, bos=_PAD, eos=_EOS, pad=_PAD, suppress=(_PAD, _EOS)
    )
    theirs = dict(length_normalisation='power', length_penalty=1.0, early_stop='estimate')

    def decode(search, **more):
        mask = np.ones(source.shape, bool)
        found = search(model, variables, source, mask, options=options, **more)
        return np.asarray(found.tokens[:, 0])

    return {
        'greedy': lambda: decode(greedy),
        'beam search': lambda: decode(beam_search, beam_size=BEAMS, **theirs),
    }


def decoders_of_transformers(
    model: Transformer, variables: Mapping[str, Any], source: np.ndarray
) -> Decoders:
    """As `decoders`, by `MarianMTModel.generate` of transformers with the same weights.

    Raises:
      UserError: transformers or PyTorch is not installed, or MarianMT cannot represent the model.
    """
    transformers, torch = import_peer('transformers'), import_peer('torch')
    with tempfile.TemporaryDirectory() as folder:
        params = jax.device_get(variables['params'])
        write_model(Path(folder), model, params, pad=_PAD, eos=_EOS)
        theirs = transformers.MarianMTModel.from_pretrained(folder).eval()
    tokens = torch.from_numpy(np.array(source, np.int64))
    inputs = {'input_ids': tokens, 'attention_mask': torch.ones_like(tokens)}

    def decode(beams):
        options = transformers.GenerationConfig(
            num_beams=beams,
            max_new_tokens=TOKENS,
            bad_words_ids=[[_PAD], [_EOS]],
            decoder_start_token_id=_PAD,
            pad_token_id=_PAD,
            eos_token_id=_EOS,
            renormalize_logits=True,
        )
        return theirs.generate(**inputs, generation_config=options)[:, 1:].numpy()

    return {'greedy': lambda: decode(1), 'beam search': lambda: decode(BEAMS)}
