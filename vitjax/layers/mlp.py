"""The MLP of a block, applied to each token, and the activations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.layers.arrays import Array
from vitjax.layers.choices import check_choice

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'gelu': lambda x: jax.nn.gelu(x, approximate=False),
    'gelu_tanh': jax.nn.gelu,
    'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP's
    'silu': jax.nn.silu,
    'relu': jax.nn.relu,
}
# Names of these functions in configs of transformers. The first name of a function is the one to write.
TRANSFORMERS_ACTIVATIONS = {
    'relu': 'relu',
    'silu': 'silu',
    'swish': 'silu',
    'gelu': 'gelu',
    'gelu_new': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'quick_gelu': 'quick_gelu',
}


class MLP(nn.Module):
    """Two dense layers with an activation between them, applied to each token.

    Attributes:
      hidden_dim: hidden width M.
      activation: a name in `ACTIVATIONS`.
      gated: the hidden layer is activation(gate) * hidden (Shazeer 2020); SwiGLU with 'silu'.
      dropout: rate, after the hidden layer.
      deterministic: True switches dropout off.
      dtype: of the computation; parameters are float32.
    """

    hidden_dim: int
    activation: str = 'gelu_tanh'
    gated: bool = False
    dropout: float = 0.0
    deterministic: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, '*batch D']) -> Float[jax.Array, '*batch D']:
        """Tokens -> tokens."""
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
        x = x.reshape(-1, width)  # [B * T, D]: matrix products of two axes are faster on a CPU
        hidden = dense(self.hidden_dim, 'hidden')(x)  # [B * T, M]
        if self.gated:
            hidden = activation(dense(self.hidden_dim, 'gate')(x)) * hidden
        else:
            hidden = activation(hidden)
        hidden = nn.Dropout(self.dropout, deterministic=self.deterministic)(hidden)
        return dense(width, 'out')(hidden).reshape(shape)
