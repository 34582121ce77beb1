import math

import numpy as np
import pytest

from vitjax.analysis import attention_distance

LAYERS, BATCH, HEADS = 2, 3, 4


def random_attention(tokens, seed=0):
    weights = np.random.default_rng(seed).exponential(size=(LAYERS, BATCH, HEADS, tokens, tokens))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def of_all(matrix):
    """Attention [T, T] repeated for all layers, images and heads: [L, B, h, T, T]."""
    return np.broadcast_to(np.float32(matrix), (LAYERS, BATCH, HEADS, *matrix.shape))


def pairwise(grid, patch):
    """Distances [N, N] in pixels, computed in a loop."""
    places = [
        (row * patch[0], column * patch[1]) for row in range(grid[0]) for column in range(grid[1])
    ]
    return np.array([[math.dist(query, key) for key in places] for query in places])


@pytest.mark.parametrize('prefix', [0, 2])
@pytest.mark.parametrize(
    ('grid', 'patch_size'), [((3, 3), 4), ((2, 5), (8, 3)), ((1, 4), (2, 6)), ((1, 1), 16)]
)
class TestByHand:
    def test_weighted_mean_over_all_pairs(self, grid, patch_size, prefix):
        patch = patch_size if isinstance(patch_size, tuple) else (patch_size, patch_size)
        attention = random_attention(prefix + math.prod(grid))
        among_patches = attention[..., prefix:, prefix:].astype(np.float64)
        among_patches /= among_patches.sum(axis=-1, keepdims=True)
        expected = (among_patches * pairwise(grid, patch)).sum(axis=-1).mean(axis=(1, 3))
        got = attention_distance(attention, grid, patch_size, prefix=prefix)
        assert got.shape == (LAYERS, HEADS)
        np.testing.assert_allclose(got, expected, rtol=1e-5)

    def test_identity_is_no_distance(self, grid, patch_size, prefix):
        attention = of_all(np.eye(prefix + math.prod(grid)))
        assert not attention_distance(attention, grid, patch_size, prefix=prefix).any()


@pytest.mark.parametrize('prefix', [0, 1])
def test_attention_distance_of_uniform_attention_is_the_mean_of_pairs(prefix):
    grid, patch = (3, 4), (2, 5)
    tokens = prefix + 12
    got = attention_distance(
        of_all(np.full((tokens, tokens), 1 / tokens)), grid, patch, prefix=prefix
    )
    np.testing.assert_allclose(got, pairwise(grid, patch).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ('axis', 'steps', 'side'), [(0, 1, 6), (1, 1, 2), (1, 2, 2 * 2)], ids=['down', 'right', 'two']
)
def test_attention_distance_of_a_shift_is_the_patch_size(axis, steps, side):
    """Patches at the border attend to the previous patch, at the same distance."""
    grid, patch = (2, 4), (6, 2)
    attention = np.zeros((8, 8))
    for query in np.ndindex(grid):
        key = list(query)
        key[axis] += steps if query[axis] + steps < grid[axis] else -steps
        attention[np.ravel_multi_index(query, grid), np.ravel_multi_index(key, grid)] = 1
    np.testing.assert_allclose(attention_distance(of_all(attention), grid, patch), side)


def test_attention_distance_ignores_prefix_tokens():
    grid, patch = (2, 3), 4
    without = random_attention(6)
    attention = random_attention(8, seed=1)
    kept = np.random.default_rng(2).uniform(0.1, 1, size=(LAYERS, BATCH, HEADS, 6, 1))
    attention[..., 2:, 2:] = without * kept
    attention[..., 2:, :2] = (1 - kept) / 2
    got = attention_distance(attention, grid, patch, prefix=2)
    np.testing.assert_allclose(got, attention_distance(without, grid, patch), rtol=1e-5)


def test_attention_distance_ignores_queries_that_attend_to_the_prefix_only():
    attention = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]])  # a class token and two patches
    np.testing.assert_allclose(attention_distance(of_all(attention), (1, 2), 7, prefix=1), 7)


def test_attention_distance_is_nan_for_a_head_that_attends_to_the_prefix_only():
    attention = random_attention(5)
    attention[:, :, 2] = np.eye(1, 5)
    distance = attention_distance(attention, (2, 2), 4, prefix=1)
    np.testing.assert_array_equal(np.isnan(distance), [[False, False, True, False]] * LAYERS)


def test_attention_distance_of_heads_layers_and_images_is_independent():
    attention = random_attention(6)
    got = attention_distance(attention, (2, 3), 4)
    heads, layers, images = [2, 0, 3, 1], [1, 0], [1, 2, 0]
    permuted = attention[layers][:, images][:, :, heads]
    np.testing.assert_allclose(
        attention_distance(permuted, (2, 3), 4), got[np.ix_(layers, heads)], rtol=1e-6
    )
    each = [attention_distance(attention[:, [image]], (2, 3), 4) for image in range(BATCH)]
    np.testing.assert_allclose(np.mean(each, axis=0), got, rtol=1e-6)


def test_attention_distance_refuses_a_grid_of_another_size():
    with pytest.raises(ValueError, match='over 7 tokens, but prefix 0 and a grid of 2x3 make 6'):
        attention_distance(random_attention(7), (2, 3), 4)
