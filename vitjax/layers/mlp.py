"""What happens to each token alone: two layers with an activation between them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.choices import check_choice

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu': lambda x: jax.nn.gelu(x, approximate=False),
    'gelu_tanh': jax.nn.gelu,
    'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP's
    'silu': jax.nn.silu,
    'relu': jax.nn.relu,
}


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
