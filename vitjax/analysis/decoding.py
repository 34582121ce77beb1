"""How fast translations are written, beside transformers with the same weights."""

import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vitjax.errors import UserError
from vitjax.generation import beam_search, greedy
from vitjax.models.seq2seq import Transformer
from vitjax.pretrained.marian import write_model

# The smallest numbers, so that they are in every vocabulary.
PAD, EOS = 0, 1

Decoders = dict[str, Callable[[], np.ndarray]]


def decoders(
    model: Transformer, variables: Mapping[str, Any], source: np.ndarray, *, length: int, beams: int
) -> Decoders:
    """'greedy' and 'beam search' -> what writes `length` tokens for each source [B, S], none less.

    They return the tokens [B, length]. The end is suppressed, so that the work is the same whatever
    the weights.
    """
    options = dict(max_length=length, bos=PAD, eos=EOS, pad=PAD, suppress=(PAD, EOS))
    mask = np.ones(source.shape, bool)

    theirs = dict(length_normalisation='power', length_penalty=1.0, early_stop='estimate')

    def write(search, **more):
        found = search(model, variables, source, mask, **options, **more)
        return np.asarray(found.tokens[:, 0])

    return {
        'greedy': lambda: write(greedy),
        'beam search': lambda: write(beam_search, beam_size=beams, **theirs),
    }


def decoders_of_transformers(
    model: Transformer, variables: Mapping[str, Any], source: np.ndarray, *, length: int, beams: int
) -> Decoders:
    """The same by `MarianMTModel.generate`, with the same weights.

    Raises:
      UserError: transformers or PyTorch is not installed, or Marian has no such model.
    """
    try:
        importlib.metadata.version('torch')
        import transformers
    except ImportError:
        raise UserError('transformers and torch are not installed') from None
    with tempfile.TemporaryDirectory() as folder:
        params = jax.device_get(variables['params'])
        write_model(Path(folder), model, params, pad=PAD, eos=EOS)
        theirs = transformers.MarianMTModel.from_pretrained(folder).eval()
    inputs = transformers.BatchEncoding(
        {'input_ids': source.tolist(), 'attention_mask': np.ones_like(source).tolist()},
        tensor_type='pt',
    )
    options = transformers.GenerationConfig(
        max_new_tokens=length,
        bad_words_ids=[[PAD], [EOS]],
        decoder_start_token_id=PAD,
        pad_token_id=PAD,
        eos_token_id=EOS,
        renormalize_logits=True,
    )

    def write(beams):
        found = theirs.generate(**inputs, generation_config=options, num_beams=beams)
        return found[:, 1:].numpy()

    return {'greedy': lambda: write(1), 'beam search': lambda: write(beams)}
