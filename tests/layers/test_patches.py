import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.layers.patches import (
    PatchEmbedding,
    as_pair,
    grid_size,
    patchify,
    resample_kernel,
    unpatchify,
)
from vitjax.layers.resampling import resize_matrix

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


@settings(max_examples=40, deadline=None)
@given(size=st.tuples(SIDE, SIDE), patch=st.tuples(SIDE, SIDE))
def test_patchify_pads_with_zeros_and_unpatchify_removes_them(size, patch):
    images = np.random.default_rng(0).integers(1, 9, size=(2, *size, 3))
    patches = patchify(images, patch, pad=True)
    grid = grid_size(size, patch, pad=True)

    assert patches.shape == (2, grid[0] * grid[1], *patch, 3)
    np.testing.assert_array_equal(unpatchify(patches, size), images)
    assert patches.sum() == images.sum()
    assert (np.array(grid) * patch - size < patch).all()
    # The middle of the image is the middle of the grid, to half a pixel.
    whole = np.abs(unpatchify(patches, np.multiply(grid, patch))).sum((0, 3))
    for axis, side in enumerate(size):
        before = np.flatnonzero(whole.sum(1 - axis))[0]
        assert 0 <= whole.shape[axis] - side - 2 * before <= 1


def test_patchify_of_a_3x6x6_image_in_3x3_patches():
    """With the channels first: 3 channels, 4 patches of 3x3 pixels."""
    image = np.arange(3 * 6 * 6).reshape(3, 6, 6)
    patches = patchify(image.transpose(1, 2, 0)[None], 3)[0].transpose(3, 0, 1, 2)
    assert patches.shape == (3, 4, 3, 3)
    np.testing.assert_array_equal(patches[1, 2], image[1, 3:, :3])


@pytest.mark.parametrize(
    ('size', 'patch', 'channels'),
    [((8, 8), (4, 4), 1), ((6, 8), (3, 2), 3), ((4, 6), (4, 1), 5)],
)
def test_patch_embedding_equals_a_convolution(size, patch, channels, random_variables):
    images = np.random.default_rng(1).normal(size=(2, *size, channels)).astype(np.float32)
    embedding = PatchEmbedding(patch, 7)
    variables = random_variables(embedding, images)
    convolved = nn.Conv(7, patch, strides=patch, padding='VALID').apply(variables, images)
    np.testing.assert_allclose(
        embedding.apply(variables, images), convolved.reshape(2, -1, 7), atol=1e-4
    )


def test_patch_embedding_computes_in_its_dtype_with_float32_parameters():
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
        (
            224,
            15,
            'patch height 15 does not divide image height 224; nearest that do: 8, 14, 16; '
            'or image height 210 or 225; or pad=True',
        ),
        (28, 5, 'nearest that do: 2, 4, 7; or image height 25 or 30'),
        (
            (32, 48),
            (8, 7),
            'patch width 7 does not divide image width 48; nearest that do: 4, 6, 8; '
            'or image width 42 or 49',
        ),
        (8, 9, 'nearest that do: 2, 4, 8; or image height 9; or pad=True'),
    ],
)
def test_grid_size_refuses_patches_that_do_not_divide_the_image(size, patch, message):
    with pytest.raises(ValueError, match=message) as error:
        grid_size(size, patch)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('pad', [False, True])
@pytest.mark.parametrize(
    ('size', 'patch', 'message'),
    [
        (8, 0, 'patch height must be at least 1, not 0'),
        (8, (4, -2), 'patch width must be at least 1, not -2'),
        (0, 1, 'image height must be at least 1, not 0'),
        ((8, -8), 4, 'image width must be at least 1, not -8'),
    ],
)
def test_grid_size_refuses_sizes_below_one(size, patch, message, pad):
    with pytest.raises(ValueError, match=f'^{message}$'):
        grid_size(size, patch, pad=pad)


def test_unpatchify_refuses_wrong_numbers_of_patches():
    with pytest.raises(
        ValueError, match=r'3 patches of 2x2 do not make an image of 4x4: 4 are needed'
    ):
        unpatchify(np.zeros((1, 3, 2, 2, 1)), 4)


def resized(images, new, method):
    """Patches [B, Ph, Pw, C] resized as images are."""
    rows, columns = (
        resize_matrix(*axis, method) for axis in zip(images.shape[1:3], new, strict=True)
    )
    return np.einsum('yr,xc,brcd->byxd', rows, columns, images)


RESAMPLED = [((4, 4), (8, 8)), ((3, 5), (6, 5)), ((8, 6), (3, 4)), ((4, 8), (8, 4))]
METHODS = pytest.mark.parametrize('method', ['cubic_antialias', 'linear'])


@METHODS
@pytest.mark.parametrize(('old', 'new'), RESAMPLED[:2])
def test_resample_kernel_gives_the_same_tokens_for_larger_patches(old, new, method):
    patches = np.random.default_rng(0).normal(size=(9, *old, 2))
    kernel = np.random.default_rng(1).normal(size=(*old, 2, 7)).astype(np.float32)
    found = resample_kernel(kernel, new, method=method)
    assert found.shape == (*new, 2, 7)
    np.testing.assert_allclose(
        np.tensordot(resized(patches, new, method), found, 3),
        np.tensordot(patches, kernel, 3),
        atol=1e-4,
    )


@METHODS
@pytest.mark.parametrize(('old', 'new'), RESAMPLED)
def test_resample_kernel_equals_the_pseudo_inverse(old, new, method):
    """Of the matrix B that resizes a whole patch: the kernel is pinv(B.T) w."""
    basis = np.eye(old[0] * old[1]).reshape(-1, *old, 1)
    matrix = resized(basis, new, method).reshape(len(basis), -1).T  # [Ph' * Pw', Ph * Pw]
    kernel = np.random.default_rng(1).normal(size=(*old, 2, 7)).astype(np.float32)
    expected = np.linalg.pinv(matrix.T) @ kernel.reshape(len(basis), -1)
    found = resample_kernel(jnp.asarray(kernel), new, method=method)
    np.testing.assert_allclose(found, expected.reshape(*new, 2, 7), atol=1e-4)


def test_resample_kernel_to_the_same_patch_returns_the_kernel():
    kernel = np.ones((2, 3, 1, 4), np.float32)
    assert resample_kernel(kernel, (2, 3)) is kernel
