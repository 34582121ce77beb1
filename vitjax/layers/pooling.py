"""From tokens to one vector: attention pooling (class token and mean need no module)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.attention import MultiHeadAttention
from vitjax.layers.block import BlockConfig
from vitjax.layers.mlp import MLP


class AttentionPooling(nn.Module):
    """A learned query looks at all tokens (MAP head: Lee et al. 2019; Zhai et al. 2022, section 3.2).

    Attributes:
      config: of the blocks before it, of which the head uses `num_heads`, `mlp_dim`, `activation`,
        `norm_epsilon`, `attention_kernel` and `dtype`. Like the published MAP heads (big_vision, timm,
        SigLIP), whose weights would not fit otherwise, it always has biases, and never QK-norm, a
        gated MLP, LayerScale or dropout. Kernels 'cudnn' and 'splash' are for many queries; in
        place of them the single query here takes 'auto'.
    """

    config: BlockConfig

    @nn.compact
    def __call__(
        self, tokens: jax.Array, *, return_weights: bool = False
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """tokens [B, T, D] -> [B, D]; with the weights [B, h, T], float32, if asked for."""
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
        return (pooled, weights[:, :, 0]) if return_weights else pooled
