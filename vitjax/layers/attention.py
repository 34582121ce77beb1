"""Attention as a soft lookup of values by query and key, and multi-head attention."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Num

from vitjax.layers.arrays import Array
from vitjax.layers.choices import check_choice
from vitjax.layers.fused import FUSED, choose_kernel, platform, similarities
from vitjax.layers.positions import rotate

# Keys and values of new tokens -> keys and values of all tokens, each [B, h, _, d].
UpdateCache = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def lookup(
    query: Num[Array, '*batch T d'],
    key: Num[Array, '*batch S d'],
    value: Num[Array, '*batch S e'],
    *,
    temperature: float | Float[Array, '...'] = 1.0,
    mask: Bool[Array, '...'] | None = None,
    return_weights: bool = False,
) -> (
    Float[jax.Array, '*batch T e']
    | tuple[Float[jax.Array, '*batch T e'], Float[jax.Array, '*batch T S']]
):
    """Looks up each query among the keys and returns the values, weighted by how well the keys match.

    A dictionary returns the value of the key that equals the query. Here all values are averaged with
    the weights softmax(query . key / temperature). As the temperature goes to 0 the best key gets all
    the weight; a query that matches no key gets the mean of the values (Vaswani et al. 2017, eq. 1,
    where the temperature is sqrt(d)).

    Args:
      query: queries, with the same leading axes as key and value.
      key: one for each value.
      value: of any width e.
      temperature: positive.
      mask: bool, broadcastable to [..., T, S]; False hides a key from a query.
      return_weights: also return the weights.

    Returns:
      The values found, [..., T, e], in the dtype of `value`, or float32 if `value` has integers; with
      `return_weights` also the weights [..., T, S], float32. Similarities and softmax are float32
      for every dtype.
    """
    weights = jax.nn.softmax(similarities(query, key, temperature, mask), axis=-1)  # [..., T, S]
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        value = value.astype(jnp.float32)  # a weighted mean of integers is not an integer
    found = jnp.einsum('...ts,...se->...te', weights.astype(value.dtype), value)
    return (found, weights) if return_weights else found


class MultiHeadAttention(nn.Module):
    """Several lookups in parallel, each in a learned projection (Vaswani et al. 2017, section 3.2.2).

    Attributes:
      num_heads: heads h; divides the width D, each head is d = D / h wide.
      qkv_bias: whether query, key and value projections have a bias.
      qk_norm: LayerNorm of each head's queries and keys (Dehghani et al. 2023, section 2).
      norm_epsilon: of that LayerNorm.
      kernel: implementation: 'xla' (the plain `lookup`), 'cpu', 'cudnn' or 'splash' (see
        `vitjax.layers.fused`), or 'auto', which chooses by hardware, dtype and shapes. With
        `return_weights` it is always `lookup`.
      dtype: of the computation; parameters are float32.
    """

    num_heads: int
    qkv_bias: bool = True
    qk_norm: bool = False
    norm_epsilon: float = 1e-6
    kernel: str = 'auto'
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, 'B T D'],
        context: Float[Array, 'B S D'] | None = None,
        *,
        mask: Bool[Array, '...'] | None = None,
        angles: Float[Array, '... T half'] | None = None,
        key_angles: Float[Array, '... _ half'] | None = None,
        update_cache: UpdateCache | None = None,
        keys_values: tuple[Float[Array, 'B h S d'], Float[Array, 'B h S d']] | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[jax.Array, 'B T D'], Float[jax.Array, 'B h T keys'] | None]:
        """Attends from x [B, T, D] to context [B, S, D]; without a context, to x itself.

        The mask is broadcastable to [B, h, T, S]; False hides a key from a query. Rotary `angles`
        rotate the queries and `key_angles` the keys; they are [T, d / 2] and [S, d / 2], or have
        leading axes that broadcast to [B, h]. Without a context the keys use `angles` too.

        For decoding with a KV cache: `update_cache` gets the keys and values [B, h, T, d] of x and
        returns those of all tokens in the cache. `keys_values` are precomputed keys and values of a
        context, given in place of the context.

        Returns:
          The result [B, T, D], and with `return_weights` the weights [B, h, T, S], float32 (else None).

        Raises:
          ValueError: `num_heads` does not divide D, `kernel` is unknown, or angles of one side are missing.
        """
        check_choice('kernel', self.kernel, ('auto', 'xla', *FUSED))
        width = x.shape[-1]
        if width % self.num_heads:
            raise ValueError(f'num_heads {self.num_heads} does not divide the width {width}')
        if context is None:
            context = x
            key_angles = angles if key_angles is None else key_angles
        if (angles is None) != (key_angles is None):
            raise ValueError('rotary positions need both angles (of queries) and key_angles')

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
            if update_cache is not None:
                key, value = update_cache(key, value)
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
