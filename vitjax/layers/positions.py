"""Where a token stands: attention alone is blind to order, so tokens carry their place."""

import functools
from numbers import Integral
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.layers.choices import check_choice


def sinusoidal(
    positions: int | jax.Array, width: int, *, temperature: float = 10_000.0
) -> jax.Array:
    """Sines and cosines of the position (Vaswani et al. 2017, section 3.5); there is no last position.

    Features 2i and 2i + 1 are sine and cosine of position * temperature^(-2i / D).

    Args:
      positions: [...], of any values; a number stands for that many positions from 0.
      width: D, even.

    Returns:
      [..., D] float32.
    """
    if width % 2:
        raise ValueError(f'sinusoidal positions need an even width, not {width}')
    if isinstance(positions, Integral):
        positions = jnp.arange(positions)
    angles = rotary_angles(positions, width, temperature=temperature)
    features = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)  # [..., D / 2, 2]
    return features.reshape(*angles.shape[:-1], width)


def sincos2d(
    grid: tuple[int, int],
    width: int,
    *,
    variant: Literal['simple_vit', 'mae'] = 'simple_vit',
    temperature: float = 10_000.0,
) -> jax.Array:
    """Fixed sine-cosine positions of a grid.

    A quarter of the width each for sin x, cos x, sin y, cos y; frequencies fall geometrically from
    1, to 1 / temperature itself ('simple_vit': Beyer et al. 2022, big_vision) or to one step
    before it ('mae': He et al. 2022). MoCo v3 (Chen et al. 2021), which both follow, has the
    frequencies of 'mae', and x for the row.

    Args:
      grid: rows and columns (Gh, Gw).
      width: D, a multiple of 4.

    Returns:
      [N, D] float32, row by row.
    """
    check_choice('variant', variant, ('simple_vit', 'mae'))
    if width % 4:
        raise ValueError(f'sincos2d positions need a width that is a multiple of 4, not {width}')
    exponents = np.linspace(0, 1, width // 4, endpoint=variant == 'simple_vit')  # [D / 4]
    rows, columns = _places(grid)
    y, x = (_angles(place, temperature**-exponents) for place in (rows, columns))  # [N, D / 4]
    return jnp.concatenate([jnp.sin(x), jnp.cos(x), jnp.sin(y), jnp.cos(y)], axis=1)


# Name -> function of grid and width D that gives [N, D]: positions of patches that nothing learns.
FIXED = {
    'sincos2d': sincos2d,
    'sincos2d_mae': functools.partial(sincos2d, variant='mae'),
    'sinusoidal': lambda grid, width: sinusoidal(grid[0] * grid[1], width),
}


def rotary_angles(positions: jax.Array, width: int, *, temperature: float = 10_000.0) -> jax.Array:
    """How far `rotate` turns each pair of features (Su et al. 2021, eq. 15).

    Pair i turns by position * temperature^(-2i / d), less whole turns; so a score of a query and a
    key depends on the difference of their positions alone. Up to a million positions angles are
    right to 1e-3.

    Args:
      positions: [...], of any values.
      width: d of a head, even.

    Returns:
      [..., d / 2] float32, in radians.
    """
    if width % 2:
        raise ValueError(f'rotary positions need heads of an even width, not {width}')
    exponents = np.arange(0, width, 2) / width  # [d / 2]
    return _angles(positions, temperature**-exponents)


def axial_angles(grid: tuple[int, int], width: int, *, temperature: float = 100.0) -> jax.Array:
    """`rotary_angles` of a grid: half of the pairs turn with the column, half with the row.

    'RoPE-Axial' of Heo et al. 2024, in the order of their code.

    Args:
      grid: rows and columns (Gh, Gw).
      width: d of a head, a multiple of 4.

    Returns:
      [N, d / 2] float32, in radians, row by row.
    """
    if width % 4:
        raise ValueError(
            f'rotary positions of a grid need heads of a width that is a multiple of 4, not {width}'
        )
    rows, columns = _places(grid)
    halves = (rotary_angles(p, width // 2, temperature=temperature) for p in (columns, rows))
    return jnp.concatenate([*halves], axis=-1)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Turns features 2i and 2i + 1 of each token as a point in the plane (Su et al. 2021, eq. 34).

    Args:
      x: queries or keys [B, h, T, d].
      angles: [T, d / 2], or with leading axes that broadcast to those of x. An angle of 0 leaves a
        pair as it is.

    Returns:
      [B, h, T, d] in the dtype of x, computed in float32.
    """
    tokens, width = x.shape[-2:]
    if width % 2 or angles.shape[-2:] != (tokens, width // 2):
        raise ValueError(
            f'angles {list(angles.shape)} do not turn {tokens} tokens of width {width}: '
            f'that takes [{tokens}, {width / 2:g}]'
        )
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], width // 2, 2)
    first, second = pairs[..., 0], pairs[..., 1]  # [B, h, T, d / 2]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    turned = jnp.stack([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


def _places(grid: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Row and column of each patch, [N] each, row by row."""
    return tuple(place.reshape(-1) for place in jnp.mgrid[: grid[0], : grid[1]])


def _angles(positions: jax.Array, frequencies: np.ndarray) -> jax.Array:
    """[...] * [F] -> [..., F], less whole turns."""
    # The float32 product of a million and a frequency is off by 0.03. So positions are told in
    # strides of 1024 and what is left; how far a stride turns is known in float64.
    stride = 1024
    strides, rest = jnp.divmod(jnp.asarray(positions)[..., None], jnp.int32(stride))
    turn = np.pi - (np.pi - stride * frequencies) % (2 * np.pi)  # in (-pi, pi]
    return strides * jnp.float32(turn) + rest * jnp.float32(frequencies)
