import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers.block import BlockConfig
from vitjax.layers.positions import rotary_angles
from vitjax.layers.transformer import Block, Encoder

B, T, D, L, HEADS, M = 2, 5, 8, 3, 2, 12
SIZES = dict(num_heads=HEADS, mlp_dim=M)
EXTRAS = dict(layer_scale=0.5, qk_norm=True, gated_mlp=True)
FIRST = {'index': 0, 'drop_path': 0.0}  # layer
X = np.random.default_rng(1).normal(size=(B, T, D)).astype(np.float32)


def without_noise(encoder, variables, x=X, **options):
    return jax.jit(lambda x: encoder.apply(variables, x, **options))(x)


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('extras', [{}, EXTRAS])
def test_parameters_are_stacked_for_all_switches(scan, remat, extras):
    def shapes(module, *inputs):
        variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables['params'])

    one = shapes(Block(BlockConfig(**SIZES, **extras)), (X, None), FIRST)
    stacked = shapes(
        Encoder(L, BlockConfig(**SIZES, **extras, dtype=jnp.bfloat16), scan=scan, remat=remat), X
    )
    expected = jax.tree.map(
        lambda leaf: ((L, *leaf[0]), leaf[1]), one, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
    assert stacked == {'blocks': expected}


@pytest.fixture(scope='module')
def encoder(random_variables):
    """An encoder with all there is, its variables, and its tokens, blocks and attention for X."""
    encoder = Encoder(L, BlockConfig(**SIZES, **EXTRAS))
    variables = jax.tree.map(lambda leaf: leaf / 2, random_variables(encoder, X))
    return encoder, variables, *without_noise(encoder, variables, keep=('blocks', 'attention'))


def test_encoder_equals_its_blocks_in_sequence(encoder):
    _, variables, tokens, kept = encoder
    block = Block(BlockConfig(**SIZES, **EXTRAS))

    @jax.jit
    def apply(variables, x):
        return block.apply(variables, (x, None), FIRST)[0][0]

    x = X
    for layer in range(L):
        one = jax.tree.map(lambda leaf, layer=layer: leaf[layer], variables['params']['blocks'])
        x = apply({'params': one}, x)
        np.testing.assert_allclose(kept['blocks'][layer], x, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(kept['blocks'][-1], tokens)


def test_encoder_returns_attention_with_rows_of_sum_one(encoder):
    *_, kept = encoder
    assert kept['blocks'].shape == (L, B, T, D)
    assert kept['attention'].shape == (L, B, HEADS, T, T)
    np.testing.assert_allclose(kept['attention'].sum(-1), 1, atol=1e-6)


def test_encoder_is_permutation_equivariant(encoder):
    module, variables, tokens, _ = encoder
    order = [3, 0, 4, 1, 2]
    shuffled, _ = without_noise(module, variables, X[:, order])
    np.testing.assert_allclose(shuffled, tokens[:, order], atol=1e-4)


def test_rotary_encoder_sees_order_but_not_the_first_position(encoder):
    module, variables, tokens, _ = encoder
    order = [3, 0, 4, 1, 2]

    def at(positions, x=X):
        angles = rotary_angles(np.array(positions), D // HEADS)
        return without_noise(module, variables, x, angles=angles)[0]

    found = at(range(T))
    assert np.abs(found - tokens).max() > 1e-2
    np.testing.assert_allclose(at(range(40, 40 + T)), found, atol=1e-3)
    np.testing.assert_allclose(at(order, X[:, order]), found[:, order], atol=1e-4)
    assert np.abs(at(range(T), X[:, order]) - found[:, order]).max() > 1e-2


def test_encoder_mask_hides_tokens(encoder):
    module, variables, *_ = encoder
    visible = np.array([True, True, False, True, False])
    masked = functools.partial(without_noise, module, variables, mask=visible)
    tokens, _ = masked(X)
    others, _ = masked(np.where(visible[:, None], X, 7))
    alone, _ = without_noise(module, variables, X[:, visible])
    np.testing.assert_allclose(tokens[:, visible], others[:, visible], atol=1e-5)
    np.testing.assert_allclose(tokens[:, visible], alone, atol=1e-4)


def test_layer_scale_of_zero_is_the_identity(encoder):
    module, variables, *_ = encoder
    blocks = dict(variables['params']['blocks'])
    for name in ('attention_scale', 'mlp_scale'):
        blocks[name] = np.zeros_like(blocks[name])
    tokens, _ = without_noise(module, {'params': {'blocks': blocks}})
    np.testing.assert_array_equal(tokens, X)


@pytest.mark.parametrize('rate', [0.2, 0.7])
def test_drop_path_keeps_the_expectation(rate, random_variables):
    """An example's branch is left out, or added as much larger as it is rarer."""
    block = Block(BlockConfig(**SIZES), deterministic=False)
    variables = random_variables(block, (X, None), FIRST)
    variables['params']['mlp']['out'] = {'kernel': np.zeros((M, D)), 'bias': np.zeros(D)}
    copies = 4000

    @jax.jit
    def branch(x, rate):
        rngs = {'dropout': jax.random.key(0)}
        layer = FIRST | {'drop_path': rate}
        return block.apply(variables, (x, None), layer, rngs=rngs)[0][0] - x

    x = np.broadcast_to(X[:1], (copies, T, D))
    whole = np.asarray(branch(x, jnp.float32(0))[0])
    dropped = np.asarray(branch(x, jnp.float32(rate)))
    kept = np.abs(dropped).max(axis=(1, 2)) > 0
    np.testing.assert_allclose(
        dropped[kept] * (1 - rate), whole[None].repeat(kept.sum(), 0), atol=1e-4
    )
    assert abs(kept.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / copies) ** 0.5


def test_dropout_acts_only_in_training_and_depends_on_the_key(random_variables):
    noisy = Encoder(L, BlockConfig(**SIZES, dropout=0.5), scan=True, drop_path=0.5)
    plain = Encoder(L, BlockConfig(**SIZES), scan=True)
    variables = random_variables(plain, X)

    @jax.jit
    def train(key):
        rngs = {'dropout': key}
        return noisy.apply(variables, X, train=True, rngs=rngs)[0]

    expected, _ = without_noise(plain, variables)
    np.testing.assert_array_equal(without_noise(noisy, variables)[0], expected)
    np.testing.assert_array_equal(without_noise(plain, variables, train=True)[0], expected)
    first, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != expected).any()


def test_drop_path_rises_from_zero_at_the_first_block(random_variables):
    encoder = Encoder(L, BlockConfig(**SIZES), scan=True, drop_path=0.9)
    variables = random_variables(encoder, X)
    rngs = {'dropout': jax.random.key(0)}
    _, calm = without_noise(encoder, variables, keep=('blocks',))
    _, noisy = without_noise(encoder, variables, keep=('blocks',), train=True, rngs=rngs)
    differs = (np.abs(calm['blocks'] - noisy['blocks']) > 1e-3).any(axis=(1, 2, 3))
    assert differs.tolist() == [False, True, True]
