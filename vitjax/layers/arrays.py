"""The array type of signatures: `Float[Array, 'B T D']` is a floating-point array of these axes.

The letters are those of `vitjax.layers`. In jaxtyping's language `*` and `...` stand for any number of axes,
`#` for an axis that may also have length 1, `_` for an axis of any length. The tests check the annotations at
run time (`tests/conftest.py`); in use they are not checked and cost nothing.
"""

import jax
import numpy as np

Array = jax.Array | np.ndarray
