"""The KV cache of a decoder: keys and values of earlier tokens, so that each is computed once."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Float, Int

from vitjax.layers.arrays import Array


class Cache(struct.PyTreeNode):
    """Keys and values of all decoder layers, in arrays of fixed shapes.

    Attributes:
      index: number of tokens in the cache, int32 scalar.
      keys, values: of self-attention, [L, B, h, T, d]. T is the maximum length. Entries at positions
        >= `index` are uninitialised.
      context_keys, context_values: of cross-attention, [L, B, h, S, d], computed once.
      context_mask: bool [B, S], False where the source is padding.
    """

    index: jax.Array
    keys: jax.Array
    values: jax.Array
    context_keys: jax.Array
    context_values: jax.Array
    context_mask: jax.Array

    @property
    def max_length(self) -> int:
        """T, the number of tokens that fit."""
        return self.keys.shape[-2]

    def write(
        self,
        layer: int | Int[Array, ''],
        key: Float[Array, 'B h n d'],
        value: Float[Array, 'B h n d'],
    ) -> 'Cache':
        """Returns the cache with keys and values of n new tokens in one layer; `index` stays."""
        # One update of the whole array, which XLA does in place; one array a layer would be copied.
        start = tuple(jnp.asarray(i, jnp.int32) for i in (layer, 0, 0, self.index, 0))
        return self.replace(
            keys=jax.lax.dynamic_update_slice(self.keys, key[None].astype(self.keys.dtype), start),
            values=jax.lax.dynamic_update_slice(
                self.values, value[None].astype(self.values.dtype), start
            ),
        )

    def repeat(self, times: int) -> 'Cache':
        """Returns the cache with each row repeated, copies side by side: [B] -> [B * times]."""
        names = ('keys', 'values', 'context_keys', 'context_values')
        arrays = {name: jnp.repeat(getattr(self, name), times, axis=1) for name in names}
        return self.replace(**arrays, context_mask=jnp.repeat(self.context_mask, times, axis=0))

    def take(self, rows: Int[Array, ' B']) -> 'Cache':
        """Returns the cache with reordered rows: row i gets the tokens of row `rows[i]`.

        Both rows must have the same source, since the keys and values of the context are not moved.
        """
        return self.replace(keys=self.keys[:, rows], values=self.values[:, rows])
