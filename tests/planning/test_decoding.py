"""`vitjax bench` times the same decoding in vitjax and transformers."""

import jax
import numpy as np
import pytest

from vitjax.errors import UserError
from vitjax.models.registry import create_model
from vitjax.planning import decoding


def translator(**changes):
    """A tiny model with the architecture of Marian, and its weights."""
    sizes = dict(vocab_size=40, width=8, encoder_depth=1, decoder_depth=1, num_heads=2)
    options = dict(positions='sinusoidal_halves', norm_epsilon=1e-5)
    model = create_model('transformer', **sizes | options | changes)
    tokens = np.zeros((1, 2), np.int32)
    return model, jax.jit(model.init)(jax.random.key(0), tokens, tokens)


def test_decoders_equal_those_of_transformers(monkeypatch):
    pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    monkeypatch.setattr(decoding, 'TOKENS', 5)
    found = decoding.compare_decoders(*translator(), batch_size=2, rounds=1)
    assert found['peer'].startswith('transformers ')
    assert (found['batch_size'], found['tokens'], found['beams']) == (2, 5, 4)
    for name in ('greedy', 'beam search'):
        assert found[name]['same_tokens'] == 1
        rates = [found[name][key]['median'] for key in ('tokens_per_second', 'ratio')]
        assert rates[1] == pytest.approx(
            rates[0] / found[name]['tokens_per_second_of_peer']['median']
        )


@pytest.mark.parametrize(
    'changes',
    [
        {'norm_position': 'pre'},
        {'positions': 'rotary'},
        {'norm_epsilon': 1e-6},
        {'share_embeddings': 'none'},
    ],
)
def test_decoders_of_transformers_refuses_models_unlike_marian(changes):
    pytest.importorskip('torch', reason='without it another error comes first')
    pytest.importorskip('transformers', reason='without it another error comes first')
    with pytest.raises(UserError, match='Marian has no such model'):
        decoding.decoders_of_transformers(*translator(**changes), np.ones((1, 2), np.int32))


@pytest.mark.slow
def test_decoders_write_the_same_number_of_tokens(monkeypatch):
    """No translation ends early, for any weights."""
    monkeypatch.setattr(decoding, 'TOKENS', 5)
    model, variables = translator(output_bias=True)
    variables['params']['output_bias'] = np.zeros(40, np.float32)
    variables['params']['output_bias'][[0, 1]] = 100
    for write in decoding.decoders(model, variables, np.full((2, 3), 7)).values():
        tokens = write()
        assert tokens.shape == (2, 5)
        assert (tokens > 1).all()
