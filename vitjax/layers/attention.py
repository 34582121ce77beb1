"""Query, key and value: a database lookup made soft, and multi-head attention built on it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.choices import check_choice
from vitjax.layers.fused import FUSED, choose_kernel, platform, similarities
from vitjax.layers.positions import rotate


def lookup(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    temperature: float | jax.Array = 1.0,
    mask: jax.Array | None = None,
    return_weights: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Looks up each query among the keys and returns the values, weighted by how well the keys match.

    A table answers a query with the value of the equal key. This one weighs all its values with
    softmax(query . key / temperature): as the temperature goes to 0 the best key takes all, and a
    query that matches no key gets the mean of the values (Vaswani et al. 2017, eq. 1, where the
    temperature is sqrt(d)).

    Args:
      query: [..., T, d].
      key: [..., S, d].
      value: [..., S, any].
      temperature: positive.
      mask: bool, broadcastable to [..., T, S]; False hides a key from a query.
      return_weights: also return the weights.

    Returns:
      [..., T, any] in the dtype of `value`, float32 if that is of whole numbers; with the weights
      [..., T, S], float32, if asked for. Similarities and softmax are float32 whatever the dtypes.
    """
    weights = jax.nn.softmax(similarities(query, key, temperature, mask), axis=-1)  # [..., T, S]
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        value = value.astype(jnp.float32)  # a mixture of whole numbers is none
    found = jnp.einsum('...ts,...se->...te', weights.astype(value.dtype), value)
    return (found, weights) if return_weights else found


class MultiHeadAttention(nn.Module):
    """Several lookups side by side, each in a learned projection (Vaswani et al. 2017, section 3.2.2).

    Attributes:
      num_heads: heads h; divides the width D, each head is d = D / h wide.
      qkv_bias: whether query, key and value projections have a bias.
      qk_norm: LayerNorm of each head's queries and keys (Dehghani et al. 2023, section 2).
      norm_epsilon: of that LayerNorm.
      kernel: 'xla' for the plain `lookup`, one of `vitjax.layers.fused`, 'cpu', 'cudnn' or 'splash',
        or 'auto' for what suits the hardware, dtype and shapes. Where weights are asked for, `lookup`.
      dtype: of the computation; parameters are float32.
    """

    num_heads: int
    qkv_bias: bool = True
    qk_norm: bool = False
    norm_epsilon: float = 1e-6
    kernel: str = 'auto'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        context: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        angles: jax.Array | None = None,
        key_angles: jax.Array | None = None,
        append: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
        keys_values: tuple[jax.Array, jax.Array] | None = None,
        return_weights: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Attends from x [B, T, D] to context [B, S, D]; without a context, to x itself.

        The mask is bool, broadcastable to [B, h, T, S]. Rotary `angles` turn the queries and
        `key_angles` the keys, [T, d / 2] and [S, d / 2] or with leading axes that broadcast to
        [B, h]; without a context the angles are those of the keys too.

        A decoder that writes token after token keeps keys and values [B, h, S, d]: `append` is given
        those of x and returns all that there are by now; `keys_values` are all that there are, in
        place of a context.

        Returns [B, T, D] and, if asked for, the weights [B, h, T, S] (else None).
        """
        check_choice('kernel', self.kernel, ('auto', 'xla', *FUSED))
        width = x.shape[-1]
        if width % self.num_heads:
            raise ValueError(f'num_heads {self.num_heads} does not divide the width {width}')
        if context is None:
            context = x
            key_angles = angles if key_angles is None else key_angles
        if (angles is None) != (key_angles is None):
            raise ValueError('queries and keys turn together: give both angles and key_angles')

        def project(name, inputs):
            return nn.DenseGeneral(
                (self.num_heads, width // self.num_heads),
                use_bias=self.qkv_bias,
                kernel_init=nn.initializers.xavier_uniform(),
                dtype=self.dtype,
                name=name,
            )(inputs).swapaxes(1, 2)  # [B, h, T, d]

        def norm(name, heads):
            if not self.qk_norm:
                return heads
            return nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name=name)(heads)

        query = norm('query_norm', project('query', x))
        if angles is not None:
            query = rotate(query, angles)
        if keys_values is not None:
            key, value = keys_values
        else:
            key, value = norm('key_norm', project('key', context)), project('value', context)
            if key_angles is not None:
                key = rotate(key, key_angles)
            if append is not None:
                key, value = append(key, value)
        kernel = self.kernel
        if kernel == 'auto':
            kernel = choose_kernel(query, key, mask, platform())
        if kernel in FUSED and not return_weights:
            found, weights = FUSED[kernel](query, key, value, mask), None
        else:
            found, weights = lookup(
                query,
                key,
                value,
                temperature=query.shape[-1] ** 0.5,
                mask=mask,
                return_weights=True,
            )
        out = nn.DenseGeneral(
            width,
            axis=(-2, -1),
            kernel_init=nn.initializers.xavier_uniform(),
            dtype=self.dtype,
            name='out',
        )(found.swapaxes(1, 2))  # [B, h, T, d] -> [B, T, h, d] -> [B, T, D]
        return out, weights if return_weights else None
