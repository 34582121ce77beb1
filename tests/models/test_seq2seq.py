import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vitjax
from vitjax.errors import UserError
from vitjax.layers.block import BlockConfig
from vitjax.layers.transformer import Decoder
from vitjax.models.seq2seq import Transformer

B, S, T, V = 3, 7, 6, 19
SIZES = dict(vocab_size=V, width=16, encoder_depth=2, decoder_depth=3, num_heads=2, mlp_dim=24)
POSITIONS = ('sinusoidal', 'sinusoidal_halves', 'learned', 'rotary', 'none')
VARIANTS = [
    {},
    {'positions': 'rotary', 'norm_position': 'pre'},
    {'positions': 'learned', 'share_embeddings': 'target', 'source_vocab_size': 23},
    {'positions': 'sinusoidal_halves', 'share_embeddings': 'none', 'output_bias': True},
    {'output_bias': True, 'norm_position': 'pre', 'activation': 'silu'},
]
RNG = np.random.default_rng(0)
SOURCE = RNG.integers(0, V, (B, S))
TARGET = RNG.integers(0, V, (B, T))
MASK = np.arange(S) < np.array([[S], [S - 2], [3]])


@functools.cache
def build(**settings):
    """A model, variables of which every one is random, and its jitted `apply`."""
    model = Transformer(**SIZES, **settings)
    shapes = jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda x: 0.4 * rng.normal(size=x.shape).astype(x.dtype), shapes)
    return model, variables, jax.jit(model.apply, static_argnames=('method', 'max_length', 'train'))


VARIANT = pytest.mark.parametrize(
    'settings', VARIANTS, ids=lambda v: '-'.join(map(str, v)) or 'base'
)


@VARIANT
def test_decode_step_equals_teacher_forcing(settings):
    _, variables, apply = build(**settings)
    expected = apply(variables, SOURCE, TARGET, MASK)
    encoded = apply(variables, SOURCE, MASK, method='encode')
    cache = apply(variables, encoded, MASK, max_length=T + 2, method='prefill')
    found = []
    for start, stop in ((0, 3), (3, 4), (4, 5), (5, 6)):  # several tokens, then one by one
        logits, cache = apply(variables, TARGET[:, start:stop], cache, method='decode_step')
        found.append(logits)
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=1e-5)
    assert int(cache.index) == T


@VARIANT
def test_packed_sequences_equal_separate_sequences(settings):
    _, variables, apply = build(**settings)
    source, target = SOURCE[:2, :4], TARGET[:2, :3]
    padding = np.zeros((1, 2), int)
    packed = apply(
        variables,
        np.concatenate([source.reshape(1, -1), padding], axis=1),
        np.concatenate([target.reshape(1, -1), padding], axis=1),
        segments=(np.array([[1] * 4 + [2] * 4 + [0] * 2]), np.array([[1] * 3 + [2] * 3 + [0] * 2])),
        positions=(
            np.array([[0, 1, 2, 3, 0, 1, 2, 3, 0, 0]]),
            np.array([[0, 1, 2, 0, 1, 2, 0, 0]]),
        ),
    )
    alone = apply(variables, source, target)
    np.testing.assert_allclose(packed[0, :6].reshape(2, 3, V), alone, atol=1e-5)


def test_source_mask_applies_with_segments():
    _, variables, apply = build()
    one = np.ones_like(SOURCE), np.ones_like(TARGET)
    np.testing.assert_allclose(
        apply(variables, SOURCE, TARGET, MASK, segments=one),
        apply(variables, SOURCE, TARGET, MASK),
        atol=1e-6,
    )


def test_decode_step_with_64_bit_integers():
    _, variables, apply = build()
    with jax.enable_x64(True):
        encoded = apply(variables, SOURCE, method='encode')
        cache = apply(variables, encoded, max_length=T, method='prefill')
        logits, _ = apply(variables, TARGET[:, :1], cache, method='decode_step')
    assert logits.shape == (len(SOURCE), 1, V)


def test_logits_do_not_depend_on_padding_or_later_tokens():
    _, variables, apply = build()
    logits = apply(variables, SOURCE, TARGET, MASK)
    other = apply(variables, np.where(MASK, SOURCE, 5), TARGET, MASK)
    np.testing.assert_array_equal(logits, other)
    for length in (1, 4):
        later = np.where(np.arange(T) < length, TARGET, 5)
        np.testing.assert_allclose(
            apply(variables, SOURCE, later, MASK)[:, :length], logits[:, :length], atol=1e-6
        )
    # What counts, counts.
    assert np.abs(apply(variables, (SOURCE + 1) % V, TARGET, MASK) - logits).max() > 1e-2


@pytest.mark.parametrize('positions', POSITIONS)
def test_transformer_sees_source_order_only_through_positions(positions):
    _, variables, apply = build(positions=positions)
    order = RNG.permutation(S)
    change = np.abs(
        apply(variables, SOURCE[:, order], TARGET) - apply(variables, SOURCE, TARGET)
    ).max()
    assert change < 1e-5 if positions == 'none' else change > 1e-3


@pytest.mark.parametrize('norm_position', ['pre', 'post'])
def test_scan_and_remat_change_neither_parameters_nor_results(norm_position):
    _, variables, apply = build(norm_position=norm_position)
    for switches in ({'scan': True}, {'remat': True}, {'scan': True, 'remat': True}):
        _, same, found = build(norm_position=norm_position, **switches)
        assert jax.tree.structure(same) == jax.tree.structure(variables)
        np.testing.assert_allclose(
            found(variables, SOURCE, TARGET, MASK),
            apply(variables, SOURCE, TARGET, MASK),
            atol=1e-5,
        )


def test_transformer_dropout_acts_only_in_training():
    model, variables, without = build()
    noisy = model.copy(dropout=0.3)
    apply = jax.jit(noisy.apply, static_argnames='train')
    rngs = {'dropout': jax.random.key(0)}
    np.testing.assert_allclose(
        apply(variables, SOURCE, TARGET), without(variables, SOURCE, TARGET), atol=1e-5
    )
    first, again = (apply(variables, SOURCE, TARGET, train=True, rngs=rngs) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - apply(variables, SOURCE, TARGET)).max() > 1e-2


def test_cross_attention_sums_to_one_over_the_source():
    _, variables, apply = build()
    encoded = apply(variables, SOURCE, MASK, method='encode')
    weights = apply(variables, TARGET, encoded, MASK, method='cross_attention')
    assert weights.shape == (3, B, 2, T, S)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert (
        np.asarray(weights)[np.broadcast_to(~MASK[None, :, None, None], weights.shape)].max() == 0
    )


def test_cache_repeat_and_take():
    _, variables, apply = build()
    encoded = apply(variables, SOURCE, MASK, method='encode')
    cache = apply(variables, encoded, MASK, max_length=4, method='prefill').repeat(2)
    tokens = np.arange(2 * B)[:, None]
    _, cache = apply(variables, tokens, cache, method='decode_step')
    rows = np.array([1, 0, 3, 3, 4, 5])
    following = np.full((2 * B, 1), 2)
    found, _ = apply(variables, following, cache.take(rows), method='decode_step')
    expected = apply(
        variables,
        SOURCE.repeat(2, 0),
        np.concatenate([tokens[rows], following], axis=1),
        MASK.repeat(2, 0),
    )
    np.testing.assert_allclose(found[:, 0], expected[:, 1], atol=1e-5)


def test_transformer_in_bfloat16_keeps_parameters_and_logits_in_float32():
    model, _, _ = build()
    half = model.copy(dtype=jnp.bfloat16)
    variables = jax.eval_shape(half.init, jax.random.key(0), SOURCE, TARGET)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    assert jax.eval_shape(half.apply, variables, SOURCE, TARGET).dtype == jnp.float32


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'num_heads': 3}, 'num_heads 3 does not divide width 16; nearest that do: 1, 2, 4'),
        ({'width': 15, 'num_heads': 3}, "'sinusoidal' need an even width"),
        ({'positions': 'rotary', 'width': 6, 'num_heads': 2}, "'rotary' need an even width"),
        ({'source_vocab_size': 9}, "take 'target'"),
        ({'positions': 'roraty'}, "did you mean 'rotary'"),
        ({'dropout': 1.0}, r'dropout must be in \[0, 1\)'),
    ],
)
def test_transformer_refuses_invalid_arguments(settings, message):
    with pytest.raises(UserError, match=message):
        vitjax.create_model('transformer', **SIZES | settings)


def test_transformer_refuses_more_tokens_than_learned_positions():
    model, variables, _ = build(positions='learned')
    model = model.copy(max_positions=5)
    params = dict(variables['params'])
    for name in ('source_positions', 'target_positions'):
        params[name] = params[name][:5]
    with pytest.raises(ValueError, match='7 tokens are more than the 5 learned positions'):
        model.apply({'params': params}, SOURCE, method='encode')
    with pytest.raises(ValueError, match='9 tokens are more than the 5 learned positions'):
        model.apply({'params': params}, np.zeros((1, 2, 16)), max_length=9, method='prefill')


def test_init_cache_of_a_decoder_with_qk_norm():
    """An option of the stack that `Transformer` does not have."""
    decoder = Decoder(2, BlockConfig(num_heads=2, mlp_dim=8, qk_norm=True))
    x, context = RNG.normal(size=(2, B, T, 8)).astype(np.float32)
    shapes = jax.eval_shape(decoder.init, jax.random.key(0), x, context)
    variables = jax.tree.map(lambda s: RNG.normal(size=s.shape).astype(s.dtype), shapes)
    mask = np.ones((B, T), bool)
    causal = np.tril(np.ones((T, T), bool))
    expected, *_ = decoder.apply(variables, x, context, mask=causal)
    cache = decoder.apply(variables, context, mask, T, method='init_cache')
    found, *_ = decoder.apply(variables, x, mask=causal, cache=cache)
    np.testing.assert_allclose(found, expected, atol=1e-4)
