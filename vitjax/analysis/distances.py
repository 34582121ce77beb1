"""Mean attention distance."""

import jax
import jax.numpy as jnp

from vitjax.layers.patches import as_pair


def attention_distance(
    attention: jax.Array,
    grid: tuple[int, int],
    patch_size: int | tuple[int, int],
    *,
    prefix: int = 0,
) -> jax.Array:
    """Mean distance in pixels between the patches of a query and a key, weighted by attention, for each head.

    Distances are between the centres of patches, averaged over queries and images. They correspond to the
    size of a receptive field (Dosovitskiy et al. 2021, figure 7 right, figure 11 and appendix D.7). Prefix
    tokens have no position: they are left out, and the weights of each query over the patches are divided by
    their sum. A query that attends to prefix tokens only is left out; a head with only such queries gets NaN.

    Args:
      attention: [L, B, h, T, T] float32, queries before keys; rows sum to 1.
      grid: rows and columns of patches; tokens are in row-major order.
      patch_size: in pixels, one number or (height, width).
      prefix: number of tokens before the patches.

    Returns:
      [L, h] float32.
    """
    rows, columns = grid
    tokens = attention.shape[-1]
    if tokens != prefix + rows * columns:
        raise ValueError(
            f'attention is over {tokens} tokens, but prefix {prefix} and a grid of {rows}x{columns} '
            f'make {prefix + rows * columns}'
        )
    indices = jnp.stack(jnp.divmod(jnp.arange(rows * columns), columns), axis=-1)
    centres = indices * jnp.array(as_pair(patch_size), jnp.float32)  # [N, 2]
    distances = jnp.linalg.norm(centres[:, None] - centres, axis=-1)  # [N, N]
    weights = attention[..., prefix:, prefix:]  # [L, B, h, N, N]
    total = weights.sum(axis=-1)  # [L, B, h, N]
    mean = jnp.einsum('lbhqk,qk->lbhq', weights, distances, precision='highest') / total
    return mean.mean(axis=(1, 3), where=total > 0)  # [L, h]
