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
      config: of the blocks before it, of which the attention here takes `num_heads`, `attention_kernel` and
        `dtype`, and the MLP `mlp_dim` and `activation`. It has biases, and neither QK-norm nor a gated MLP,
        whatever the blocks have, as published MAP heads (big_vision, timm, SigLIP): their weights
        would not fit otherwise.
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
        attention = MultiHeadAttention(
            config.num_heads, kernel=config.attention_kernel, dtype=config.dtype, name='attention'
        )
        x, weights = attention(probe, tokens, return_weights=return_weights)
        y = nn.LayerNorm(config.norm_epsilon, dtype=config.dtype, name='mlp_norm')(x)
        y = MLP(config.mlp_dim, activation=config.activation, dtype=config.dtype, name='mlp')(y)
        pooled = (x + y)[:, 0]  # [B, D]
        return (pooled, weights[:, :, 0]) if return_weights else pooled
