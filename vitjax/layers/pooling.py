"""Attention pooling, from tokens to one vector (class token and mean need no module)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float

from vitjax.layers.arrays import Array
from vitjax.layers.attention import MultiHeadAttention
from vitjax.layers.block import BlockConfig
from vitjax.layers.mlp import MLP


class AttentionPooling(nn.Module):
    """A learned query attends to all tokens (MAP head: Lee et al. 2019; Zhai et al. 2022, section 3.2).

    Attributes:
      config: of the blocks before it; the head uses its `num_heads`, `mlp_dim`, `activation`,
        `norm_epsilon`, `attention_kernel` and `dtype`. Like the published MAP heads (big_vision, timm,
        SigLIP), whose weights would not fit otherwise, it always has biases, and never QK-norm, a
        gated MLP, LayerScale or dropout. The kernels 'cudnn' and 'splash' need many queries; for the
        single query here 'auto' replaces them.
    """

    config: BlockConfig

    @nn.compact
    def __call__(
        self, tokens: Float[Array, 'B T D'], *, return_weights: bool = False
    ) -> Float[jax.Array, 'B D'] | tuple[Float[jax.Array, 'B D'], Float[jax.Array, 'B h T']]:
        """Tokens -> pooled vector; with `return_weights` also the attention weights, float32."""
        config = self.config
        batch, _, width = tokens.shape
        probe = self.param('probe_token', nn.initializers.xavier_uniform(), (1, 1, width))
        probe = jnp.broadcast_to(probe.astype(config.dtype), (batch, 1, width))
        # cuDNN has no gradient for one query, and splash attention would pad it to 128.
        many = config.attention_kernel in ('cudnn', 'splash')
        kernel = 'auto' if many else config.attention_kernel
        attention = MultiHeadAttention(
            config.num_heads, kernel=kernel, dtype=config.dtype, name='attention'
        )
        x, weights = attention(probe, tokens, return_weights=return_weights)
        y = nn.LayerNorm(config.norm_epsilon, dtype=config.dtype, name='mlp_norm')(x)
        y = MLP(config.mlp_dim, activation=config.activation, dtype=config.dtype, name='mlp')(y)
        pooled = (x + y)[:, 0]  # [B, D]
        return pooled if weights is None else (pooled, weights[:, :, 0])
