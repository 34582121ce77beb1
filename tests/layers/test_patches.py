import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.layers.patches import PatchEmbedding, as_pair, grid_size, patchify, unpatchify

SIDE = st.integers(1, 6)


@settings(max_examples=40, deadline=None)
@given(
    grid=st.tuples(SIDE, SIDE),
    patch=st.tuples(SIDE, SIDE),
    channels=st.integers(1, 5),
    batch=st.integers(1, 3),
)
def test_unpatchify_is_the_inverse_of_patchify(grid, patch, channels, batch):
    size = grid[0] * patch[0], grid[1] * patch[1]
    images = np.random.default_rng(0).normal(size=(batch, *size, channels))
    patches = patchify(images, patch)

    assert grid_size(size, patch) == grid
    assert patches.shape == (batch, grid[0] * grid[1], *patch, channels)
    np.testing.assert_array_equal(unpatchify(patches, size), images)
    # Row by row: patch n is the n-th when the image is read like a page.
    for index in range(grid[0] * grid[1]):
        row, column = divmod(index, grid[1])
        rows = slice(row * patch[0], (row + 1) * patch[0])
        columns = slice(column * patch[1], (column + 1) * patch[1])
        np.testing.assert_array_equal(patches[:, index], images[:, rows, columns])


@pytest.mark.parametrize(
    ('size', 'patch', 'channels'),
    [((8, 8), (4, 4), 1), ((6, 8), (3, 2), 3), ((4, 6), (4, 1), 5)],
)
def test_embedding_is_a_convolution_with_the_stride_of_its_kernel(
    size, patch, channels, random_variables
):
    images = np.random.default_rng(1).normal(size=(2, *size, channels)).astype(np.float32)
    embedding = PatchEmbedding(patch, 7)
    variables = random_variables(embedding, images)
    convolved = nn.Conv(7, patch, strides=patch, padding='VALID').apply(variables, images)
    np.testing.assert_allclose(
        embedding.apply(variables, images), convolved.reshape(2, -1, 7), atol=1e-4
    )


def test_embedding_computes_in_its_dtype_with_float32_parameters():
    embedding = PatchEmbedding((2, 2), 4, dtype=jnp.bfloat16)
    tokens, variables = jax.eval_shape(
        embedding.init_with_output, jax.random.key(0), np.ones((1, 4, 4, 1))
    )
    assert (tokens.shape, tokens.dtype) == ((1, 4, 4), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}


@pytest.mark.parametrize(('size', 'pair'), [(16, (16, 16)), ((8, 4), (8, 4)), ([8, 4], (8, 4))])
def test_as_pair(size, pair):
    assert as_pair(size) == pair


@pytest.mark.parametrize(
    ('size', 'patch', 'message'),
    [
        (224, 15, 'patch height 15 does not divide image height 224; .* 8, 14, 16'),
        (28, 5, 'nearest that do: 2, 4, 7'),
        ((32, 48), (8, 7), 'patch width 7 does not divide image width 48; .* 4, 6, 8'),
        (8, 9, 'nearest that do: 2, 4, 8'),
        (8, 0, 'patch height 0 does not divide'),
        (0, 1, 'does not divide image height 0'),
    ],
)
def test_patches_that_do_not_fill_the_image(size, patch, message):
    with pytest.raises(ValueError, match=message):
        grid_size(size, patch)


def test_patches_that_make_no_such_image():
    with pytest.raises(ValueError, match=r'3 patches of 2x2 do not make an image of 4x4: .* 4'):
        unpatchify(np.zeros((1, 3, 2, 2, 1)), 4)
