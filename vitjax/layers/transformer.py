"""The Transformer's encoder: MLP, block, and the stack of blocks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.attention import MultiHeadAttention
from vitjax.layers.choices import check_choice

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu': lambda x: jax.nn.gelu(x, approximate=False),
    'gelu_tanh': jax.nn.gelu,
    'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP's
    'silu': jax.nn.silu,
}


def is_stacked(name: str) -> bool:
    """Whether the parameter of a '/'-joined name has a leading axis of layers, as `Encoder` holds it."""
    return 'blocks' in name.split('/')


class MLP(nn.Module):
    """Two layers over each token alone; gated, the hidden layer is act(gate) * hidden (Shazeer 2020).

    SwiGLU is `gated=True` with the activation 'silu'.
    """

    hidden_dim: int
    activation: str = 'gelu_tanh'
    gated: bool = False
    dropout: float = 0.0
    deterministic: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, T, D]."""
        check_choice('activation', self.activation, ACTIVATIONS)
        width = x.shape[-1]

        def dense(features, name):
            return nn.Dense(
                features,
                kernel_init=nn.initializers.xavier_uniform(),
                bias_init=nn.initializers.normal(1e-6),
                dtype=self.dtype,
                name=name,
            )

        activation = ACTIVATIONS[self.activation]
        shape = x.shape
        x = x.reshape(-1, width)  # [B * T, D]: the CPU multiplies two axes faster than three
        hidden = dense(self.hidden_dim, 'hidden')(x)  # [B * T, M]
        if self.gated:
            hidden = activation(dense(self.hidden_dim, 'gate')(x)) * hidden
        else:
            hidden = activation(hidden)
        hidden = nn.Dropout(self.dropout, deterministic=self.deterministic)(hidden)
        return dense(width, 'out')(hidden).reshape(shape)


class EncoderBlock(nn.Module):
    """Self-attention, then MLP, each normalised before and added after (pre-norm).

    The fields that are not explained here are those of `Encoder`.

    Attributes:
      deterministic: True in use, False in training with dropout or drop path.
      keep: what to return beside the tokens: any of 'blocks', 'attention'.
    """

    num_heads: int
    mlp_dim: int
    activation: str = 'gelu_tanh'
    gated_mlp: bool = False
    norm_epsilon: float = 1e-6
    layer_scale: float | None = None
    qkv_bias: bool = True
    qk_norm: bool = False
    dropout: float = 0.0
    deterministic: bool = True
    keep: tuple[str, ...] = ()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        drop_path: jax.Array,
        mask: jax.Array | None = None,
        angles: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Tokens [B, T, D], the block's drop rate (scalar), a mask broadcastable to [B, h, T, T], angles.

        The angles [T, d / 2] are of rotary positions. Returns the tokens and a dict with what
        `keep` names.
        """
        y = self._norm('attention_norm')(x)
        y, weights = MultiHeadAttention(
            self.num_heads,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
            name='attention',
        )(y, mask=mask, angles=angles, return_weights='attention' in self.keep)
        x = x + self._branch(y, 'attention_scale', drop_path)

        y = self._norm('mlp_norm')(x)
        y = MLP(
            self.mlp_dim,
            activation=self.activation,
            gated=self.gated_mlp,
            dropout=self.dropout,
            deterministic=self.deterministic,
            dtype=self.dtype,
            name='mlp',
        )(y)
        x = x + self._branch(y, 'mlp_scale', drop_path)

        # One constraint a block is what keeps activations cut along the batch under FSDP.
        x = nn.with_logical_constraint(x, ('batch', 'length', None))  # [B, T, D]
        return x, {name: {'blocks': x, 'attention': weights}[name] for name in self.keep}

    def _norm(self, name: str) -> nn.Module:
        return nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name=name)

    def _branch(self, y: jax.Array, scale: str, drop_path: jax.Array) -> jax.Array:
        """What is added to the residual stream: dropout, LayerScale, drop path."""
        y = nn.Dropout(self.dropout, deterministic=self.deterministic)(y)
        if self.layer_scale is not None:
            initial = nn.initializers.constant(self.layer_scale)
            y = y * self.param(scale, initial, (y.shape[-1],)).astype(y.dtype)
        if self.deterministic:
            return y
        # Stochastic depth, an example at a time (Huang et al. 2016).
        shape = (y.shape[0], *(1,) * (y.ndim - 1))
        kept = jax.random.bernoulli(self.make_rng('dropout'), 1 - drop_path, shape)
        return jnp.where(kept, y / (1 - drop_path).astype(y.dtype), 0)


class Encoder(nn.Module):
    """A stack of encoder blocks; the caller embeds before and normalises after it.

    Parameters are held stacked, under `blocks`, with a leading axis of `depth` layers. `scan` and
    `remat` change neither them nor the results: they trade compile time and memory for speed.

    Attributes:
      depth: blocks L.
      num_heads: heads h of the attention.
      mlp_dim: hidden width M of the MLP.
      activation: a name in `ACTIVATIONS`.
      gated_mlp: whether the MLP is gated (SwiGLU with the activation 'silu').
      norm_epsilon: of every LayerNorm.
      layer_scale: initial value of LayerScale (Touvron et al. 2021), None for none.
      qkv_bias, qk_norm: see `MultiHeadAttention`.
      dropout: after attention, in and after the MLP.
      drop_path: of the last block; it rises linearly from 0 at the first.
      scan: compile one block and loop over the layers, not all of them one after another.
      remat: recompute a block's activations in the backward pass, not store them.
      dtype: of the computation; parameters, statistics of norms and softmax are float32.
    """

    depth: int
    num_heads: int
    mlp_dim: int
    activation: str = 'gelu_tanh'
    gated_mlp: bool = False
    norm_epsilon: float = 1e-6
    layer_scale: float | None = None
    qkv_bias: bool = True
    qk_norm: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    scan: bool = False
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        angles: jax.Array | None = None,
        train: bool = False,
        keep: tuple[str, ...] = (),
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Tokens [B, T, D] -> tokens [B, T, D] and what `keep` names.

        `keep` may hold 'blocks' ([L, B, T, D], the tokens after each block) and 'attention'
        ([L, B, h, T, T]). The mask is bool, broadcastable to [B, h, T, T]; the angles [T, d / 2], of
        rotary positions, turn the queries and keys of every block (see `vitjax.layers.positions`).
        """
        # Under `scan` the backward loop keeps the recomputation apart; unrolled, only a barrier does.
        block = nn.remat(EncoderBlock, prevent_cse=not self.scan) if self.remat else EncoderBlock
        stack = nn.scan(
            block,
            variable_axes={'params': 0},
            split_rngs={'params': True, 'dropout': True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=self.depth,
            unroll=1 if self.scan else self.depth,
        )
        return stack(
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            activation=self.activation,
            gated_mlp=self.gated_mlp,
            norm_epsilon=self.norm_epsilon,
            layer_scale=self.layer_scale,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            dropout=self.dropout,
            deterministic=not train or not (self.dropout or self.drop_path),
            keep=keep,
            dtype=self.dtype,
            name='blocks',
        )(x, jnp.linspace(0.0, self.drop_path, self.depth), mask, angles)
