"""Position embeddings, fixed and rotary: attention itself does not depend on the order of tokens."""

import functools
from collections.abc import Callable
from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from vitjax.layers.arrays import Array
from vitjax.layers.choices import check_choice


def sinusoidal(
    positions: int | Real[Array, '...'], width: int, *, temperature: float = 10_000.0
) -> Float[jax.Array, '... width']:
    """Sines and cosines of the position, without a maximum length (Vaswani et al. 2017, section 3.5).

    Features 2i and 2i + 1 are sine and cosine of position * temperature^(-2i / D).

    Args:
      positions: of any shape; a number n means 0, ..., n - 1.
      width: D, even.

    Returns:
      [..., D] float32.
    """
    if width % 2:
        raise ValueError(f'sinusoidal positions need an even width, not {width}')
    places = jnp.arange(positions) if isinstance(positions, int | Integral) else positions
    angles = rotary_angles(places, width, temperature=temperature)
    features = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)  # [..., D / 2, 2]
    return features.reshape(*angles.shape[:-1], width)


def sincos2d(
    grid: tuple[int, int],
    width: int,
    *,
    variant: str = 'simple_vit',
    temperature: float = 10_000.0,
) -> Float[jax.Array, 'N {width}']:
    """Fixed sine-cosine positions of a grid.

    sin x, cos x, sin y and cos y have a quarter of the width each; frequencies fall geometrically from
    1 to 1 / temperature itself ('simple_vit': Beyer et al. 2022, big_vision) or to one step
    before it ('mae': He et al. 2022). MoCo v3 (Chen et al. 2021), the origin of both, has the
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


# Fixed positions of patches: name -> function (grid, width D) -> [N, D].
FIXED: dict[str, Callable[[tuple[int, int], int], jax.Array]] = {
    'sincos2d': sincos2d,
    'sincos2d_mae': functools.partial(sincos2d, variant='mae'),
    'sinusoidal': lambda grid, width: sinusoidal(grid[0] * grid[1], width),
}


def rotary_angles(
    positions: Real[Array, '...'], width: int, *, temperature: float = 10_000.0
) -> Float[jax.Array, '... half']:
    """Angles by which `rotate` rotates each pair of features (Su et al. 2021, eq. 15).

    Pair i rotates by position * temperature^(-2i / d), modulo 2 pi. So the similarity of a query and a
    key depends only on the difference of their positions. Up to position 1,000,000 the error of an angle is
    below 1e-3.

    Args:
      positions: of any shape.
      width: d of a head, even.

    Returns:
      [..., d / 2] float32, in radians.
    """
    if width % 2:
        raise ValueError(f'rotary positions need heads of an even width, not {width}')
    exponents = np.arange(0, width, 2) / width  # [d / 2]
    return _angles(positions, temperature**-exponents)


def axial_angles(
    grid: tuple[int, int], width: int, *, temperature: float = 100.0
) -> Float[jax.Array, 'N half']:
    """`rotary_angles` of a grid: half of the pairs rotate by the column, half by the row.

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


def rotate(
    x: Float[Array, '*batch T d'], angles: Float[Array, '... _ _']
) -> Float[jax.Array, '*batch T d']:
    """Rotates features 2i and 2i + 1 of each token as a point in the plane (Su et al. 2021, eq. 34).

    Args:
      x: queries or keys.
      angles: [T, d / 2], or with leading axes that broadcast to [B, h]. An angle of 0 leaves a pair
        unchanged.

    Returns:
      The rotated x, in its dtype, computed in float32.

    Raises:
      ValueError: the angles do not fit x.
    """
    tokens, width = x.shape[-2:]
    if width % 2 or angles.shape[-2:] != (tokens, width // 2):
        raise ValueError(
            f'angles {list(angles.shape)} do not fit {tokens} tokens of width {width}: '
            f'[{tokens}, {width / 2:g}] are needed'
        )
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], width // 2, 2)
    first, second = pairs[..., 0], pairs[..., 1]  # [B, h, T, d / 2]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    rotated = jnp.stack([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return rotated.reshape(x.shape).astype(x.dtype)


def _places(grid: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Row and column of each patch, [N] each, row by row."""
    rows, columns = jnp.mgrid[: grid[0], : grid[1]]
    return rows.reshape(-1), columns.reshape(-1)


def _angles(positions: Array, frequencies: np.ndarray) -> jax.Array:
    """[...] * [F] -> [..., F], modulo 2 pi."""
    # The float32 product of a million and a frequency is off by 0.03. So positions are split into
    # strides of 1024 and a rest; the angle of a stride is computed in float64.
    stride = 1024
    strides, rest = jnp.divmod(jnp.asarray(positions)[..., None], jnp.int32(stride))
    turn = np.pi - (np.pi - stride * frequencies) % (2 * np.pi)  # in (-pi, pi]
    return strides * jnp.float32(turn) + rest * jnp.float32(frequencies)
