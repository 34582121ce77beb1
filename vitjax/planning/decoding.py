"""How fast translations are written, beside transformers with the same weights."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax.errors import UserError
from vitjax.generation import beam_search, greedy
from vitjax.models.seq2seq import Transformer
from vitjax.planning.benchmark import median_and_spread, seconds_in_turn, versions
from vitjax.planning.peers import import_peer
from vitjax.pretrained.layouts.marian import write_model

TOKENS = 64  # of each translation
BEAMS = 4
SOURCE = 32  # tokens of each source

_PAD, _EOS = 0, 1

Decoders = dict[str, Callable[[], np.ndarray]]


def compare_decoders(
    model: Transformer, variables: Mapping[str, Any], *, batch_size: int, rounds: int
) -> dict[str, Any]:
    """Tokens a second by greedy and by beam search, in turn with transformers where it can be.

    The sources are random. Whatever the weights, each translation has `TOKENS` tokens.

    Returns:
      What was asked for (`batch_size`, `tokens`, `beams`), `peer`: the versions that ours is compared
      with, or why it is compared with none, and for 'greedy' and 'beam search' `tokens_per_second`,
      and with a peer that of theirs, our `ratio` to it within the rounds and the share of the
      `same_tokens`; see `vitjax.planning.benchmark.median_and_spread`.
    """
    rng = np.random.default_rng(0)
    vocabulary = model.source_vocab_size or model.vocab_size
    source = rng.integers(2, vocabulary, (batch_size, SOURCE)).astype(np.int32)
    ours, theirs = decoders(model, variables, source), {}
    try:
        theirs = decoders_of_transformers(model, variables, source)
        peer = versions('transformers', 'torch')
    except UserError as error:
        peer = f'none: {error}'
    functions = {('ours', name): function for name, function in ours.items()}
    functions |= {('theirs', name): function for name, function in theirs.items()}
    written = {name: function() for name, function in functions.items()}
    seconds = seconds_in_turn(functions, rounds)
    count = batch_size * TOKENS
    results = {'batch_size': batch_size, 'tokens': TOKENS, 'beams': BEAMS, 'peer': peer}
    for name in ours:
        mine, other = ('ours', name), ('theirs', name)
        results[name] = {'tokens_per_second': median_and_spread(count / seconds[mine])}
        if other in functions:
            results[name] |= {
                'tokens_per_second_of_peer': median_and_spread(count / seconds[other]),
                'ratio': median_and_spread(seconds[other] / seconds[mine]),
                'same_tokens': float((written[mine] == written[other]).mean()),
            }
    return results


def decoders(model: Transformer, variables: Mapping[str, Any], source: np.ndarray) -> Decoders:
    """'greedy' and 'beam search' -> what translates sources [B, S] to tokens [B, TOKENS]."""
    options = dict(max_length=TOKENS, bos=_PAD, eos=_EOS, pad=_PAD, suppress=(_PAD, _EOS))
    theirs = dict(length_normalisation='power', length_penalty=1.0, early_stop='estimate')

    def write(search, **more):
        mask = np.ones(source.shape, bool)
        found = search(model, variables, source, mask, **options, **more)
        return np.asarray(found.tokens[:, 0])

    return {
        'greedy': lambda: write(greedy),
        'beam search': lambda: write(beam_search, beam_size=BEAMS, **theirs),
    }


def decoders_of_transformers(
    model: Transformer, variables: Mapping[str, Any], source: np.ndarray
) -> Decoders:
    """The same by `MarianMTModel.generate`, with the same weights.

    Raises:
      UserError: transformers or PyTorch is not installed, or Marian has no such model.
    """
    transformers, torch = import_peer('transformers'), import_peer('torch')
    with tempfile.TemporaryDirectory() as folder:
        params = jax.device_get(variables['params'])
        write_model(Path(folder), model, params, pad=_PAD, eos=_EOS)
        theirs = transformers.MarianMTModel.from_pretrained(folder).eval()
    tokens = torch.from_numpy(np.array(source, np.int64))
    inputs = {'input_ids': tokens, 'attention_mask': torch.ones_like(tokens)}

    def write(beams):
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

    return {'greedy': lambda: write(1), 'beam search': lambda: write(BEAMS)}
