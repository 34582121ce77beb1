"""What a decoder keeps while it writes token after token: keys and values, so that none is computed twice."""

import flax
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Cache:
    """Keys and values of all decoder layers, in arrays of fixed shapes.

    Attributes:
      index: tokens written so far, int32 scalar.
      keys, values: of self-attention, [L, B, h, T, d]; T is the most tokens there can be, and what
        lies behind `index` means nothing.
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
        """T."""
        return self.keys.shape[-2]

    def write(self, layer: jax.Array, key: jax.Array, value: jax.Array) -> 'Cache':
        """The cache with the keys and values [B, h, n, d] of n new tokens in one layer."""
        # One update of the whole array, which XLA does in place; an array a layer would be copied.
        start = tuple(jnp.asarray(i, jnp.int32) for i in (layer, 0, 0, self.index, 0))
        return self.replace(
            keys=jax.lax.dynamic_update_slice(self.keys, key[None].astype(self.keys.dtype), start),
            values=jax.lax.dynamic_update_slice(
                self.values, value[None].astype(self.values.dtype), start
            ),
        )

    def repeat(self, times: int) -> 'Cache':
        """Each example so many times, copies side by side: [B] -> [B * times]."""
        names = ('keys', 'values', 'context_keys', 'context_values')
        arrays = {name: jnp.repeat(getattr(self, name), times, axis=1) for name in names}
        return self.replace(**arrays, context_mask=jnp.repeat(self.context_mask, times, axis=0))

    def take(self, rows: jax.Array) -> 'Cache':
        """The examples in another order; row i gets the tokens of row `rows[i]`, int [B].

        Both rows must have the same source: what was computed of it stays where it is.
        """
        return self.replace(keys=self.keys[:, rows], values=self.values[:, rows])
