"""From tokens to one vector: attention pooling (class token and mean need no module)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.attention import MultiHeadAttention
from vitjax.layers.mlp import MLP


class AttentionPooling(nn.Module):
    """A learned query looks at all tokens (MAP head: Lee et al. 2019; Zhai et al. 2022, section 3.2)."""

    num_heads: int
    mlp_dim: int
    activation: str = 'gelu_tanh'
    norm_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: jax.Array, *, return_weights: bool = False
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """tokens [B, T, D] -> [B, D]; with the weights [B, h, T], float32, if asked for."""
        batch, _, width = tokens.shape
        probe = self.param('probe_token', nn.initializers.xavier_uniform(), (1, 1, width))
        probe = jnp.broadcast_to(probe.astype(self.dtype), (batch, 1, width))
        attention = MultiHeadAttention(self.num_heads, dtype=self.dtype, name='attention')
        x, weights = attention(probe, tokens, return_weights=return_weights)
        y = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name='mlp_norm')(x)
        y = MLP(self.mlp_dim, activation=self.activation, dtype=self.dtype, name='mlp')(y)
        pooled = (x + y)[:, 0]  # [B, D]
        return (pooled, weights[:, :, 0]) if return_weights else pooled
