import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from small_vit import HEADS, IMAGES, SMALL, B, D, K, L, N, jit, norm, random_variables, shapes

from vitjax.layers.convolution import Window
from vitjax.layers.patches import patchify
from vitjax.models.vit import ViT


@pytest.mark.parametrize(
    ('size', 'patch', 'channels', 'grid'),
    [
        (8, 4, 3, (2, 2)),
        (8, (2, 8), 1, (4, 1)),
        ((8, 12), 4, 2, (2, 3)),
        ((12, 8), (3, 4), 4, (4, 2)),
        ((6, 10), (6, 10), 5, (1, 1)),
        (4, 1, 3, (4, 4)),
        (7, 4, 3, (2, 2)),
        ((5, 7), (2, 3), 1, (3, 3)),
        ((3, 9), 8, 2, (1, 2)),
    ],
)
def test_vit_takes_any_image_size_patch_size_and_channels(size, patch, channels, grid):
    changes = dict(image_size=size, patch_size=patch, pad=True, in_channels=channels)
    model = ViT(**SMALL | changes)
    height, width = (size, size) if isinstance(size, int) else size
    images = np.zeros((3, height, width, channels))
    logits, variables = shapes(model, images)
    features, _ = shapes(model, images, method='features', attention=True)

    tokens = grid[0] * grid[1]
    assert (logits.shape, logits.dtype) == ((3, 1000), jnp.float32)
    assert variables['params']['positions'].shape == (1, 1 + tokens, D)
    assert features['tokens'].shape == (3, tokens, D)
    assert features['attention'].shape == (L, 3, HEADS, 1 + tokens, 1 + tokens)


def test_vit_pad_equals_zeros_around_the_image():
    """As many on both sides, or one more below and on the right."""
    images = np.random.default_rng(1).normal(size=(B, 5, 7, 3)).astype(np.float32)
    padded = np.pad(images, ((0, 0), (0, 1), (1, 1), (0, 0)))
    model = ViT(**SMALL | {'image_size': (5, 7), 'pad': True})
    variables = random_variables(model, images)
    expected = jit(model.clone(image_size=(6, 9), pad=False).apply)(variables, padded)
    np.testing.assert_allclose(jit(model.apply)(variables, images), expected, atol=1e-5)


KINDS = [
    (dict(), 1),
    (dict(pooling='cls', num_registers=2, representation_size=6), 3),
    (dict(pooling='mean', num_registers=1, positions='sincos2d'), 1),
    (dict(pooling='mean', class_token=True), 1),
    (dict(pooling='mean', positions='none'), 0),
    (dict(num_registers=1, positions='sincos2d_mae'), 2),
    (dict(pooling='mean', positions='sinusoidal'), 0),
    (dict(num_registers=2, positions='rotary'), 3),
    (dict(pooling='map', num_registers=1), 1),
    (dict(pooling='map', class_token=True, num_registers=1), 2),
    (dict(pooling='map', class_token=True, num_registers=1, pool_prefix=False), 2),
    (dict(pooling='mean', class_token=True, num_registers=1, pool_prefix=True), 2),
    (dict(pooling='cls_mean', num_registers=2, prefix_positions='all'), 3),
    (dict(distillation='head', num_registers=1), 3),
    (dict(distillation='token', prefix_positions='none', patch_bias=False), 2),
    (dict(pooling='mean', class_token=True, norm_after_pooling=True), 1),
]


@pytest.mark.parametrize(('changes', 'prefix'), KINDS)
def test_vit_features(changes, prefix):
    model = ViT(**SMALL, num_classes=K, **changes)
    variables = random_variables(model)
    params = variables['params']
    features, logits = jit(
        lambda images: (
            model.apply(variables, images, method='features', attention=True),
            model.apply(variables, images),
        )
    )(IMAGES)

    total = prefix + N
    wide = 2 * D if model.pooling == 'cls_mean' else D
    assert jax.tree.map(jnp.shape, features) == {
        'tokens': (B, N, D),
        'prefix': (B, prefix, D),
        'pooled': (B, wide),
        'blocks': ((B, total, D),) * L,
        'attention': (L, B, HEADS, total, total),
    }
    np.testing.assert_allclose(features['attention'].sum(-1), 1, atol=1e-5)
    tokens = np.concatenate([features['prefix'], features['tokens']], axis=1)
    last = features['blocks'][-1]
    expected = last if model.norm_after_pooling else norm(params, last)
    np.testing.assert_allclose(tokens, expected, atol=1e-4)
    pool_prefix = model.pooling == 'map' if model.pool_prefix is None else model.pool_prefix
    wanted = tokens if pool_prefix else features['tokens']
    pooled = {
        'cls': lambda: tokens[:, 0],
        'mean': lambda: wanted.mean(axis=1),
        'cls_mean': lambda: np.concatenate([tokens[:, 0], wanted.mean(axis=1)], axis=1),
        'map': lambda: jit(lambda x: model.bind(variables).attention_pooling(x))(wanted),
    }[model.pooling]()
    pooled = norm(params, pooled) if model.norm_after_pooling else pooled
    np.testing.assert_allclose(features['pooled'], pooled, atol=1e-4)
    if model.representation_size:
        layer = params['representation']
        pooled = np.tanh(pooled @ layer['kernel'] + layer['bias'])
    expected = pooled @ params['head']['kernel'] + params['head']['bias']
    if model.distillation == 'head':
        head = params['distillation_head']
        expected = (expected + tokens[:, 1] @ head['kernel'] + head['bias']) / 2
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_vit_features_return_attention_only_on_request():
    features, _ = shapes(ViT(**SMALL), method='features')
    assert set(features) == {'tokens', 'prefix', 'pooled', 'blocks'}


@pytest.mark.parametrize(('prefix_positions', 'placed'), [('class', 2), ('all', 4), ('none', 0)])
def test_vit_prefix_is_class_distillation_register_tokens(prefix_positions, placed):
    model = ViT(
        **SMALL,
        num_registers=2,
        distillation='token',
        prefix_positions=prefix_positions,
        norm_embeddings=True,
    )
    variables = random_variables(model)
    params = variables['params']
    # Blocks of zeros add nothing to the tokens.
    params['encoder'] = jax.tree.map(np.zeros_like, params['encoder'])
    features = jit(lambda images: model.apply(variables, images, method='features'))(IMAGES)

    patches = patchify(IMAGES, (2, 3)).reshape(B, N, -1)
    kernel = params['patch_embedding']['kernel'].reshape(-1, D)
    embedded = patches @ kernel + params['patch_embedding']['bias']
    names = ('class_token', 'distillation_token', 'register_tokens')
    prefix = np.concatenate([params[name] for name in names], axis=1)
    positions = params['positions']
    assert positions.shape == (1, placed + N, D)
    prefix[:, :placed] += positions[:, :placed]
    first = {'norm': params['embedding_norm']}
    prefix, embedded = (
        norm(params, norm(first, x)) for x in (prefix, embedded + positions[:, placed:])
    )
    np.testing.assert_allclose(features['prefix'], prefix.repeat(B, 0), atol=1e-3)
    np.testing.assert_allclose(features['tokens'], embedded, atol=1e-3)


def test_vit_without_patch_bias():
    params = shapes(ViT(**SMALL, patch_bias=False))[1]['params']
    assert set(params['patch_embedding']) == {'kernel'}


@pytest.mark.parametrize('pooling', ['cls', 'mean', 'map'])
def test_vit_without_classes_returns_the_pooled_vector(pooling):
    output, variables = shapes(ViT(**SMALL, num_classes=0, pooling=pooling))
    assert (output.shape, output.dtype) == ((B, D), jnp.float32)
    assert 'head' not in variables['params']


# Everything that could depend on how the layers are computed.
RICH = SMALL | dict(
    positions='rotary',
    num_classes=K,
    num_registers=2,
    layer_scale=0.5,
    qk_norm=True,
    gated_mlp=True,
    activation='silu',
    dropout=0.3,
    drop_path=0.5,
)


@functools.cache
def computed(scan, remat):
    """Initial parameters; logits; and logits and gradients in training."""
    model = ViT(**RICH, scan=scan, remat=remat)
    variables = random_variables(model)
    direction = np.random.default_rng(2).normal(size=(B, K))

    @jit
    def compute(variables):
        def loss(variables):
            rngs = {'dropout': jax.random.key(1)}
            logits = model.apply(variables, IMAGES, train=True, rngs=rngs)
            return (logits * direction).sum(), logits

        return (
            model.init(jax.random.key(0), IMAGES),
            model.apply(variables, IMAGES),
            jax.grad(loss, has_aux=True)(variables),
        )

    return jax.tree.map(np.asarray, compute(variables))


@pytest.mark.parametrize('what', ['evaluation', 'training'])
@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('scan', [False, True])
def test_scan_and_remat_do_not_change_results(scan, remat, what):
    index = ['parameters', 'evaluation', 'training'].index(what)
    values, expected = computed(scan, remat)[index], computed(False, False)[index]
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5), values, expected
    )
    # Nothing is equal for being zero, but for the gradient of key_norm's bias: what adds the same to
    # all keys changes no weight.
    largest = sorted(np.abs(leaf).max() for leaf in jax.tree.leaves(values))
    assert largest[what == 'training'] > 1e-4


@pytest.mark.parametrize(('scan', 'remat'), [(False, True), (True, False), (True, True)])
def test_scan_and_remat_do_not_change_initial_parameters(scan, remat):
    jax.tree.map(np.testing.assert_array_equal, computed(scan, remat)[0], computed(False, False)[0])


def test_layers_start_with_different_kernels_and_the_given_layer_scale():
    blocks = computed(False, False)[0]['params']['encoder']['blocks']
    for part, name in [('attention', 'query'), ('attention', 'out'), ('mlp', 'out')]:
        first, second = blocks[part][name]['kernel']
        assert not np.isclose(first, second).any()
    for name in ('attention_scale', 'mlp_scale'):
        assert (blocks[name] == RICH['layer_scale']).all()


def test_training_without_dropout_needs_no_key():
    model = ViT(**SMALL)
    logits = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, True)[0], IMAGES)
    assert logits.shape == (B, 1000)
    variables = shapes(model)[1]
    assert jax.eval_shape(lambda v: model.apply(v, IMAGES, train=True), variables).shape == (
        B,
        1000,
    )


@pytest.mark.parametrize('scan', [False, True])
def test_vit_in_bfloat16_is_near_float32(scan):
    changes = {'dropout': 0.0, 'drop_path': 0.0, 'scan': scan}
    model = ViT(**RICH | changes, dtype=jnp.bfloat16)
    logits, initial = shapes(model)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {np.dtype('float32')}

    expected = computed(False, False)[1]
    found = jit(model.apply)(random_variables(model), IMAGES)
    assert found.dtype == jnp.float32
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert (found != expected).any()


@pytest.mark.parametrize('pooling', ['cls', 'mean', 'map'])
def test_vit_in_bfloat16_keeps_softmax_and_norms_in_float32(pooling):
    model = ViT(**RICH | {'pooling': pooling}, dtype=jnp.bfloat16)
    variables = shapes(model)[1]
    dtypes = {}
    for equation in equations(jax.make_jaxpr(model.apply)(variables, IMAGES).jaxpr):
        operands = {str(operand.aval.dtype) for operand in equation.invars}
        dtypes.setdefault(equation.primitive.name, set()).update(operands)
    assert dtypes['exp'] == dtypes['rsqrt'] == {'float32'}
    assert dtypes['dot_general'] == {'bfloat16', 'float32'}  # float32 in the head alone


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'patch_size': 4},
            'patch width 4 does not divide image width 6; nearest that do: 2, 3, 6; '
            'or image width 4 or 8; or pad=True',
        ),
        ({'num_heads': 3}, 'num_heads 3 does not divide width 8; nearest that do: 1, 2, 4'),
        ({'class_token': False}, "pooling 'cls' needs class_token"),
        ({'pooling': 'cls_mean', 'class_token': False}, "pooling 'cls_mean' needs class_token"),
        ({'distillation': 'head', 'norm_after_pooling': True}, "distillation 'head' .* no norm_"),
        (
            {'distillation': 'head', 'num_classes': 0, 'representation_size': 5},
            'mean of two tokens: no representation_size',
        ),
        (
            {'distillation': 'head', 'num_classes': 0, 'pooling': 'cls_mean'},
            "nor pooling 'cls_mean'",
        ),
        ({'attention_kernel': 'flash'}, "attention_kernel.* 'flash'"),
        ({'width': 7, 'num_heads': 7, 'positions': 'sinusoidal'}, 'a width that 2 divides, not 7'),
        ({'width': 6, 'positions': 'sincos2d_mae'}, 'a width that 4 divides, not 6'),
        ({'num_heads': 4, 'positions': 'rotary'}, 'heads of a width that 4 divides, not 2'),
        ({'depth': 0}, 'depth must be at least 1, not 0'),
        ({'in_channels': 0}, 'in_channels must be at least 1'),
        ({'num_classes': -1}, 'num_classes must be at least 0, not -1'),
        ({'num_registers': -1}, 'num_registers must be at least 0'),
        (
            {'stem_depths': (), 'patch_size': (4, 6)},
            "patch width 6 is not a multiple of the stem's stride 4; nearest that are: 4 or 8",
        ),
        (
            {'image_size': 32, 'patch_size': 16, 'stem_depths': (1, 1, 1, 1)},
            "patch height 16 is not a multiple of the stem's stride 32; nearest that are: 32$",
        ),
        (
            {'image_size': 8, 'patch_size': 4, 'stem_depths': (0,)},
            r'stem_depths must be at least 1, not \(0,\)',
        ),
        ({'stem_width': 0}, 'stem_width must be at least 1, not 0'),
        ({'dropout': 1.0}, r'dropout must be in \[0, 1\), not 1.0'),
        ({'drop_path': -0.1}, r'drop_path must be in \[0, 1\)'),
    ],
)
def test_vit_refuses_invalid_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        ViT(**SMALL | changes)


@pytest.mark.parametrize('shape', [(2, 6, 4, 3), (2, 4, 6, 1), (4, 6, 3), (2, 4, 6)])
def test_vit_refuses_images_of_other_shapes(shape):
    with pytest.raises(ValueError, match=r'takes images \[batch, 4, 6, 3\], not \[\d') as error:
        shapes(ViT(**SMALL), np.zeros(shape))
    assert str(list(shape)) in str(error.value)


def test_vit_windows_without_a_stem():
    assert ViT(**SMALL).windows() == {
        'patches': (Window((2, 3), (2, 3)),),
        'block1': (Window(None, (1, 1)),),
        'block2': (Window(None, (1, 1)),),
    }


def test_subclass_of_vit_without_fields():
    class Own(ViT):
        pass

    assert shapes(Own(**SMALL)) == shapes(ViT(**SMALL))
    with pytest.raises(ValueError, match=r"pooling.* 'max'"):
        Own(**SMALL, pooling='max')
