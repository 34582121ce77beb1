"""A small recurrent encoder-decoder with a cache, and the same in numpy, one prefix at a time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import struct

PAD, BOS, EOS = 0, 1, 2
LENGTH = 6


@struct.dataclass
class Cache:
    encoded: jax.Array  # [B, D]
    state: jax.Array  # [B, D], moves with the hypotheses

    def repeat(self, times):
        return jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), self)

    def take(self, rows):
        return self.replace(state=self.state[rows])


class Recurrent(nn.Module):
    """The logits of the next token are a function of the source and of all tokens before."""

    vocab_size: int = 6
    width: int = 5
    on_step: Callable | None = None

    def setup(self):
        def normal(name, *shape):
            return self.param(name, nn.initializers.normal(), shape)

        self.source = normal('source', self.vocab_size, self.width)
        self.target = normal('target', self.vocab_size, self.width)
        self.transition = normal('transition', self.width, self.width)
        self.output = normal('output', self.width, self.vocab_size)

    def __call__(self, source, source_mask):
        return self.decode_step(
            source[:, :1], self.prefill(self.encode(source, source_mask), source_mask)
        )

    def encode(self, source, source_mask):
        return self.source[source] / jnp.arange(1, source.shape[1] + 1)[:, None]  # [B, S, D]

    def prefill(self, encoded, source_mask, max_length=1):
        encoded = jnp.where(source_mask[..., None], encoded, 0).sum(axis=1)  # [B, D]
        return Cache(encoded, jnp.zeros_like(encoded))

    def decode_step(self, tokens, cache):
        if self.on_step is not None:
            jax.debug.callback(self.on_step)
        state = jnp.tanh(cache.state @ self.transition + self.target[tokens[:, 0]] + cache.encoded)
        return (state @ self.output)[:, None], cache.replace(state=state)


class Problem(NamedTuple):
    model: Recurrent
    variables: dict
    source: np.ndarray  # [B, S]

    def following(self, row, suppress=(), forced_eos=False, max_length=LENGTH):
        """A function of a prefix: log-probabilities [V] of what follows for a row of the source."""
        weights = {name: np.float64(value) for name, value in self.variables['params'].items()}
        source = self.source[row][self.source[row] != PAD]
        encoded = (weights['source'][source] / np.arange(1, len(source) + 1)[:, None]).sum(axis=0)

        def follow(prefix):
            if forced_eos and len(prefix) == max_length - 1:
                return np.where(np.arange(self.model.vocab_size) == EOS, 0.0, -np.inf)
            state = np.zeros_like(encoded)
            for token in (BOS, *prefix):
                state = np.tanh(state @ weights['transition'] + weights['target'][token] + encoded)
            logits = state @ weights['output']
            logits[list(suppress)] = -np.inf
            return logits - np.logaddexp.reduce(logits)

        return follow

    def log_probability(self, row, tokens, **options):
        follow = self.following(row, **options)
        return sum(follow(tokens[:index])[token] for index, token in enumerate(tokens))


@pytest.fixture(scope='session')
def problem():
    """(seed, vocabulary) -> model, variables and sources of which some have padding."""

    def make(seed=0, vocab_size=6, batch=5, on_step=None):
        model = Recurrent(vocab_size, on_step=on_step)
        rng = np.random.default_rng(seed)
        source = rng.integers(1, vocab_size, (batch, 4))
        source[np.arange(4) >= rng.integers(1, 5, (batch, 1))] = PAD
        shapes = jax.eval_shape(
            Recurrent(vocab_size).init, jax.random.key(0), source, source != PAD
        )
        variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
        return Problem(model, variables, source)

    return make


@pytest.fixture(scope='session')
def check_sequences():
    """Checks what holds for all sequences, however they were generated."""

    def check(problem, found, **options):
        for row, n in np.ndindex(found.lengths.shape):
            length = int(found.lengths[row, n])
            tokens = found.tokens[row, n].tolist()
            assert EOS not in tokens[: length - 1]
            assert tokens[length - 1] == EOS or length == len(tokens)
            assert set(tokens[length:]) <= {PAD}
            expected = problem.log_probability(row, tokens[:length], **options)
            assert float(found.log_probabilities[row, n]) == pytest.approx(expected, abs=1e-4)

    return check
