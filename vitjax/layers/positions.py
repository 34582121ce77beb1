"""Where a token stands: attention alone is blind to order, so tokens carry their place."""

import jax
import jax.numpy as jnp


def sincos2d(grid: tuple[int, int], width: int, *, temperature: float = 10_000.0) -> jax.Array:
    """Fixed sine-cosine positions of a grid (Chen et al. 2021, MoCo v3; Beyer et al. 2022).

    A quarter of the width each for sin x, cos x, sin y, cos y; frequencies fall geometrically
    from 1 to 1 / temperature.

    Args:
      grid: rows and columns (Gh, Gw).
      width: D, a multiple of 4.

    Returns:
      [N, D] float32, row by row.
    """
    if width % 4:
        raise ValueError(f'sincos2d positions need a width that is a multiple of 4, not {width}')
    rows, columns = grid
    y, x = jnp.mgrid[:rows, :columns].astype(jnp.float32)  # [Gh, Gw] each
    frequency = temperature ** -jnp.linspace(0.0, 1.0, width // 4)  # [D / 4]
    x = x.reshape(-1, 1) * frequency  # [N, D / 4]
    y = y.reshape(-1, 1) * frequency
    return jnp.concatenate([jnp.sin(x), jnp.cos(x), jnp.sin(y), jnp.cos(y)], axis=1)
