"""Generates target sequences with an encoder-decoder model, token by token with a cache.

The model is a Flax module with three methods, as `vitjax.models.seq2seq.Transformer` has them:
`encode(source, source_mask)`, `prefill(encoded, source_mask, max_length)`, which returns a cache, and
`decode_step(tokens, cache)`, which returns the logits of the next tokens and the cache with the given
tokens added. The cache's `repeat(times)` and `take(rows)` multiply and reorder its rows.
"""

from vitjax.generation.beam import beam_search
from vitjax.generation.hypotheses import GenerationOptions, Hypotheses
from vitjax.generation.sampling import greedy, sample

__all__ = ['GenerationOptions', 'Hypotheses', 'beam_search', 'greedy', 'sample']
