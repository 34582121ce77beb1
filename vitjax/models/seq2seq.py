"""The encoder-decoder Transformer (Vaswani et al. 2017): a source sequence in, a target sequence out."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Int

from vitjax.layers.arrays import Array
from vitjax.layers.block import BlockConfig
from vitjax.layers.cache import Cache
from vitjax.layers.positions import rotary_angles, sinusoidal
from vitjax.layers.transformer import Decoder, Encoder
from vitjax.models.checks import (
    check_at_least,
    check_choices,
    check_epsilon,
    check_heads,
    check_rates,
)

# Length of source and target in the example inputs, in tokens.
SENTENCE = 64


class Transformer(nn.Module):
    """Source tokens -> encoder; target tokens so far -> decoder -> logits of the next token.

    In training the decoder gets the whole target, shifted by one (`__call__`, `decode`). In use it
    generates token by token with a cache (`encode`, `prefill`, `decode_step`; see `vitjax.generation`).
    Both give the same logits.

    Several sequences may be packed into a row: `segments` [B, S] or [B, T] number them from 1 (0 is
    padding), a token sees only its own segment, and `positions` restart with each.

    Attributes:
      vocab_size: size V of the vocabulary of source and target or, with `source_vocab_size`, of the target.
      source_vocab_size: size of a separate source vocabulary, which shares no embeddings with the target.
      width: D.
      encoder_depth, decoder_depth: blocks of each stack.
      num_heads: attention heads h; divides the width.
      mlp_dim: hidden width M of the MLPs; None for 4 * width.
      share_embeddings: 'all': one table for source, target and output; 'target': one for target and
        output; 'none': three.
      output_bias: whether logits have a bias.
      positions: 'sinusoidal' (sine and cosine of a frequency side by side), 'sinusoidal_halves' (all
        sines, then all cosines), 'learned', 'rotary' (in every self-attention) or 'none'.
      max_positions: length of the learned table; the others have no limit.
      norm_position, activation, norm_epsilon, attention_kernel, dropout, dtype: see
        `vitjax.layers.block.BlockConfig`; with 'pre' a norm follows each stack.
      scan, remat: see `vitjax.layers.transformer.Stack`.
    """

    vocab_size: int = 8000
    source_vocab_size: int | None = None
    width: int = 512
    encoder_depth: int = 6
    decoder_depth: int = 6
    num_heads: int = 8
    mlp_dim: int | None = None
    share_embeddings: Literal['all', 'target', 'none'] = 'all'
    output_bias: bool = False
    positions: Literal['sinusoidal', 'sinusoidal_halves', 'learned', 'rotary', 'none'] = (
        'sinusoidal'
    )
    max_positions: int = 512
    norm_position: Literal['pre', 'post'] = 'post'
    activation: Literal['relu', 'gelu_tanh', 'gelu', 'quick_gelu', 'silu'] = 'relu'
    norm_epsilon: float = 1e-6
    # No 'splash', which does not support the causal mask of the decoder.
    attention_kernel: Literal['auto', 'xla', 'cpu', 'cudnn'] = 'auto'
    dropout: float = 0.0
    scan: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_choices(self, 'share_embeddings', 'positions', 'norm_position', 'activation')
        check_choices(self, 'attention_kernel')
        check_at_least(self, 2, 'vocab_size', 'source_vocab_size')
        check_at_least(self, 1, 'width', 'encoder_depth', 'decoder_depth', 'num_heads', 'mlp_dim')
        check_at_least(self, 1, 'max_positions')
        check_rates(self, 'dropout')
        check_epsilon(self)
        check_heads(self)
        head = self.width // self.num_heads
        if (self.positions.startswith('sinusoidal') and self.width % 2) or (
            self.positions == 'rotary' and head % 2
        ):
            raise ValueError(f"positions '{self.positions}' need an even width, also of each head")
        if self.source_vocab_size and self.share_embeddings == 'all':
            raise ValueError(
                "share_embeddings 'all' shares one vocabulary; with source_vocab_size take 'target'"
            )

    def setup(self):
        # Multiplied by sqrt(D) in `_embed`, embeddings have a variance of 1 (section 3.4).
        initial = nn.initializers.normal(self.width**-0.5)
        self.embedding = self.param('embedding', initial, (self.vocab_size, self.width))
        if self.share_embeddings != 'all':
            shape = (self.source_vocab_size or self.vocab_size, self.width)
            self.source_embedding = self.param('source_embedding', initial, shape)
        if self.share_embeddings == 'none':
            self.head = nn.Dense(
                self.vocab_size,
                use_bias=self.output_bias,
                kernel_init=initial,
                dtype=self.dtype,
            )
        elif self.output_bias:
            self.bias = self.param('output_bias', nn.initializers.zeros, (self.vocab_size,))
        if self.positions == 'learned':
            shape, initial = (self.max_positions, self.width), nn.initializers.normal(0.02)
            self.source_positions = self.param('source_positions', initial, shape)
            self.target_positions = self.param('target_positions', initial, shape)
        block = BlockConfig(
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim or 4 * self.width,
            activation=self.activation,
            norm_position=self.norm_position,
            norm_epsilon=self.norm_epsilon,
            attention_kernel=self.attention_kernel,
            dropout=self.dropout,
            dtype=self.dtype,
        )
        self.encoder = Encoder(self.encoder_depth, block, scan=self.scan, remat=self.remat)
        self.decoder = Decoder(self.decoder_depth, block, scan=self.scan, remat=self.remat)
        self.embedding_dropout = nn.Dropout(self.dropout)
        if self.norm_position == 'pre':
            self.encoder_norm = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype)
            self.decoder_norm = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype)

    def example_inputs(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Source and target of `SENTENCE` tokens, or fewer if there are fewer learned positions."""
        length = SENTENCE if self.positions != 'learned' else min(SENTENCE, self.max_positions)
        return (jax.ShapeDtypeStruct((1, length), jnp.int32),) * 2

    def __call__(
        self,
        source: Int[Array, 'B S'],
        target: Int[Array, 'B T'],
        source_mask: Bool[Array, 'B S'] | None = None,
        *,
        segments: tuple[Int[Array, 'B S'], Int[Array, 'B T']] | None = None,
        positions: tuple[Int[Array, 'B S'], Int[Array, 'B T']] | None = None,
        train: bool = False,
    ) -> Float[jax.Array, 'B T V']:
        """Teacher forcing: logits, float32, of the token after each target token.

        Args:
          source: source tokens.
          target: input of the decoder: the start token, then the target without its last token.
          source_mask: False where the source is padding.
          segments, positions: of source and target, for packed sequences.
          train: with dropout, give `rngs={'dropout': key}`.
        """
        source_segments, _ = segments or (None, None)
        source_positions, target_positions = positions or (None, None)
        encoded = self.encode(
            source, source_mask, segments=source_segments, positions=source_positions, train=train
        )
        return self.decode(
            target,
            encoded,
            source_mask,
            segments=segments,
            positions=target_positions,
            train=train,
        )

    def encode(
        self,
        source: Int[Array, 'B S'],
        source_mask: Bool[Array, 'B S'] | None = None,
        *,
        segments: Int[Array, 'B S'] | None = None,
        positions: Int[Array, 'B S'] | None = None,
        train: bool = False,
    ) -> Float[jax.Array, 'B S D']:
        """Encodes the source; arguments as in `__call__`."""
        embedding = self.embedding if self.share_embeddings == 'all' else self.source_embedding
        table = self.source_positions if self.positions == 'learned' else None
        x, angles = self._embed(source, embedding, table, positions, train)
        mask = _mask(source_mask, None if segments is None else (segments, segments))
        x, _ = self.encoder(x, mask=mask, angles=angles, train=train)
        return self.encoder_norm(x) if self.norm_position == 'pre' else x

    def decode(
        self,
        target: Int[Array, 'B T'],
        encoded: Float[Array, 'B S D'],
        source_mask: Bool[Array, 'B S'] | None = None,
        *,
        segments: tuple[Int[Array, 'B S'], Int[Array, 'B T']] | None = None,
        positions: Int[Array, 'B T'] | None = None,
        train: bool = False,
    ) -> Float[jax.Array, 'B T V']:
        """Teacher forcing with an encoded source: logits as in `__call__`."""
        x, _ = self._decode(target, encoded, source_mask, segments, positions, train)
        return self._logits(x)

    def cross_attention(
        self,
        target: Int[Array, 'B T'],
        encoded: Float[Array, 'B S D'],
        source_mask: Bool[Array, 'B S'] | None = None,
    ) -> Float[jax.Array, 'L B h T S']:
        """Cross-attention weights of all decoder layers, float32."""
        keep = ('cross_attention',)
        _, kept = self._decode(target, encoded, source_mask, None, None, False, keep)
        return kept['cross_attention']

    def prefill(
        self,
        encoded: Float[Array, 'B S D'],
        source_mask: Bool[Array, 'B S'] | None = None,
        *,
        max_length: int,
    ) -> Cache:
        """Computes the source's keys and values; returns a cache for `max_length` target tokens.

        Raises:
          ValueError: there are fewer learned positions than `max_length`.
        """
        if self.positions == 'learned' and max_length > self.max_positions:
            raise ValueError(
                f'{max_length} tokens are more than the {self.max_positions} learned positions'
            )
        if source_mask is None:
            source_mask = jnp.ones(encoded.shape[:2], bool)
        return self.decoder.init_cache(encoded, source_mask, max_length)

    def decode_step(
        self, tokens: Int[Array, 'B n'], cache: Cache
    ) -> tuple[Float[jax.Array, 'B n V'], Cache]:
        """Decodes the next n tokens: logits as from `decode`, and the cache with these tokens added."""
        positions = cache.index + jnp.arange(tokens.shape[1])
        table = self.target_positions if self.positions == 'learned' else None
        x, angles = self._embed(tokens, self.embedding, table, positions[None], False)
        seen = jnp.arange(cache.max_length) <= positions[:, None]  # [n, T]
        context_mask = cache.context_mask[:, None, None]
        x, cache, _ = self.decoder(
            x, mask=seen, context_mask=context_mask, angles=angles, cache=cache
        )
        return self._logits(x), cache

    def _decode(self, target, encoded, source_mask, segments, positions, train, keep=()):
        """Returns tokens [B, T, D] after the decoder, and the intermediates named in `keep`."""
        table = self.target_positions if self.positions == 'learned' else None
        x, angles = self._embed(target, self.embedding, table, positions, train)
        mask = jnp.tril(jnp.ones((target.shape[1],) * 2, bool))  # [T, T]
        if segments is not None:
            mask = mask & _same_segment(segments[1], segments[1])
        context_mask = _mask(source_mask, segments and (segments[1], segments[0]))
        x, _, kept = self.decoder(
            x,
            encoded,
            mask=mask,
            context_mask=context_mask,
            angles=angles,
            train=train,
            keep=keep,
        )
        return x, kept

    def _embed(
        self,
        tokens: Int[Array, 'B T'],
        embedding: Float[Array, 'V D'],
        table: Float[Array, 'positions D'] | None,
        positions: Int[Array, '#B T'] | None,
        train: bool,
    ) -> tuple[Float[jax.Array, 'B T D'], Float[jax.Array, '#B 1 T half'] | None]:
        """Embeds tokens; also returns the angles of rotary positions. `table`: the learned positions."""
        if positions is None:
            positions = jnp.arange(tokens.shape[1])[None]
        x = jnp.take(embedding, tokens, axis=0) * self.width**0.5  # [B, T, D]
        x = x.astype(self.dtype)
        angles = None
        if self.positions == 'rotary':
            angles = rotary_angles(positions, self.width // self.num_heads)
            angles = angles[:, None]  # [B, 1, T, d / 2]
        elif table is not None:
            if tokens.shape[1] > len(table):
                raise ValueError(
                    f'{tokens.shape[1]} tokens are more than the {len(table)} learned positions'
                )
            x = x + jnp.take(table, positions, axis=0).astype(x.dtype)
        elif self.positions != 'none':
            waves = sinusoidal(positions, self.width)  # [B, T, D]
            if self.positions == 'sinusoidal_halves':
                waves = jnp.concatenate([waves[..., ::2], waves[..., 1::2]], axis=-1)
            x = x + waves.astype(x.dtype)
        return self.embedding_dropout(x, deterministic=not train), angles

    def _logits(self, x: Float[Array, 'B T D']) -> Float[jax.Array, 'B T V']:
        """Decoder output -> logits, float32."""
        if self.norm_position == 'pre':
            x = self.decoder_norm(x)
        if self.share_embeddings == 'none':
            return self.head(x).astype(jnp.float32)
        embedding = self.embedding.astype(x.dtype)
        logits = jnp.einsum('btd,vd->btv', x, embedding, preferred_element_type=jnp.float32)
        return logits + self.bias if self.output_bias else logits


def _mask(
    source_mask: Bool[Array, 'B S'] | None,
    segments: tuple[Int[Array, 'B T'], Int[Array, 'B S']] | None,
) -> Bool[Array, 'B 1 #T S'] | None:
    """Attention mask to the source, from its padding mask and the segments of queries and source.

    None if everything is visible.
    """
    mask = None if source_mask is None else source_mask[:, None, None]  # [B, 1, 1, S]
    if segments is None:
        return mask
    same = _same_segment(*segments)
    return same if mask is None else same & mask


def _same_segment(query: Int[Array, 'B T'], key: Int[Array, 'B S']) -> Bool[Array, 'B 1 T S']:
    """Mask of the pairs of query and key with equal segments."""
    return (query[:, :, None] == key[:, None, :])[:, None]
