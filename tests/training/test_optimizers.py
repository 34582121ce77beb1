from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from vitjax.config import arguments, base_config, complete
from vitjax.errors import UserError
from vitjax.layers.stacks import Stacks, record_stacks
from vitjax.models.vit import ViT
from vitjax.training import optimizers

NAMES = pytest.mark.parametrize('name', optimizers.OPTIMIZERS)
RATE = 0.1
D, HEADS, HEAD, MLP = 8, 2, 4, 24
STACKS = Stacks(
    {'encoder/blocks', 'decoder/blocks'}, {'': ('class_token', 'positions', 'patch_embedding')}
)


def options(name, **changes):
    defaults = {key: default for key, (_, default) in arguments('optimizer', name).items()}
    return defaults | {'name': name} | changes


def constant(step):
    return RATE


def create(config, schedule, params, stacks=None, **given):
    """`optimizers.create` for the parameters of this file."""
    return optimizers.create(
        config, schedule, params, STACKS if stacks is None else stacks, **given
    )


def stack(depth):
    return {
        'attention': {
            'query': {'kernel': (depth, D, HEADS, HEAD), 'bias': (depth, HEADS, HEAD)},
            'out': {'kernel': (depth, HEADS, HEAD, D)},
        },
        'mlp': {'hidden': {'kernel': (depth, D, MLP), 'bias': (depth, MLP)}},
        'temperature': (depth,),
    }


SHAPES = {
    'root': {'kernel': (3, 3, 2, D)},
    'stage': {'conv': {'kernel': (3, 3, 2, D)}},
    'encoder': {'class_token': (1, 1, D), 'blocks': stack(2), 'norm': {'scale': (D,)}},
    'decoder': {'blocks': {'attention': {'value': {'kernel': (3, D, HEADS, HEAD)}}}},
    'head': {'kernel': (D, 10), 'bias': (10,)},
}


def random_like(shapes, seed):
    generator = np.random.default_rng(seed)

    def values(shape):
        # Layers and leaves of unlike sizes, so that what one does to another would show.
        size = np.exp(2 * generator.normal(size=(*shape[:1], *(1 for _ in shape[1:]))))
        return (size * generator.normal(size=shape)).astype(np.float32)

    return jax.tree.map(values, shapes, is_leaf=lambda node: isinstance(node, tuple))


def unstacked(tree):
    """The same parameters, each layer held by itself."""
    if not isinstance(tree, dict):
        return tree
    held = {key: unstacked(value) for key, value in tree.items() if key != 'blocks'}
    if 'blocks' in tree:
        depth = len(jax.tree.leaves(tree['blocks'])[0])
        for layer in range(depth):
            held[f'block{layer}'] = jax.tree.map(lambda leaf, i=layer: leaf[i], tree['blocks'])
    return held


def updates_of(transformation, params, gradients):
    """Updates of the last of several steps."""

    # Compiling is most of these tests' time.
    @partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
    def step(gradient, state, params):
        updates, state = transformation.update(gradient, state, params)
        return updates, state, optax.apply_updates(params, updates)

    state = jax.jit(transformation.init)(params)
    for gradient in gradients:
        updates, state, params = step(gradient, state, params)
    return updates


def numbers_in_state(transformation, params):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(transformation.init, params)))


def assert_close(one, other, **tolerance):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


@pytest.mark.slow
@NAMES
def test_a_stack_learns_as_its_layers_would(name):
    changes = {'momentum_dtype': 'float32', 'factor_from': 4} if name == 'adafactor' else {}
    config = options(name, weight_decay=0.1, clip_norm=1.0, **changes)
    params = random_like(SHAPES, 0)
    gradients = [random_like(SHAPES, seed) for seed in (1, 2, 3)]
    stacked = updates_of(create(config, constant, params), params, gradients)
    single = unstacked(params)
    separate = updates_of(
        create(config, constant, single, Stacks()), single, [unstacked(g) for g in gradients]
    )
    assert_close(unstacked(stacked), separate, rtol=1e-4, atol=1e-5)


FLAT = {'mlp': {'hidden': {'kernel': (8, 40), 'bias': (40,)}, 'norm': {'scale': (8,)}}}
KERNELS = {'mlp': {'hidden': {'kernel': True, 'bias': False}, 'norm': {'scale': False}}}
REFERENCES = {
    'sgd': optax.chain(
        optax.trace(0.9), optax.add_decayed_weights(0.1, KERNELS), optax.scale(-RATE)
    ),
    'adam': optax.adamw(RATE, weight_decay=0.1, mask=KERNELS),
    'adamw': optax.adamw(RATE, weight_decay=0.1, mask=KERNELS),
    'lamb': optax.lamb(RATE, weight_decay=0.1, mask=KERNELS),
    'lion': optax.lion(RATE, weight_decay=0.1, mask=KERNELS),
    'muon': optax.contrib.muon(
        RATE,
        weight_decay=0.1,
        weight_decay_mask=KERNELS,
        adam_b2=0.95,
        consistent_rms=0.2,
        adam_weight_decay=0.0,
        nesterov=False,
    ),
    'adafactor': optax.adafactor(
        RATE,
        min_dim_size_to_factor=8,
        multiply_by_parameter_scale=False,
        momentum=0.9,
        weight_decay_rate=0.1 * RATE,
        weight_decay_mask=KERNELS,
    ),
}


@pytest.mark.slow
@NAMES
def test_equals_the_reference_on_a_plain_tree(name):
    changes = {
        'adafactor': {'factor_from': 8, 'momentum_dtype': 'float32'},
        'muon': {'nesterov': False},
    }.get(name, {})
    params, gradients = random_like(FLAT, 0), [random_like(FLAT, seed) for seed in (1, 2, 3)]
    ours = create(options(name, weight_decay=0.1, **changes), constant, params)
    assert_close(
        updates_of(ours, params, gradients),
        updates_of(REFERENCES[name], params, gradients),
        rtol=1e-5,
        atol=1e-6,
    )


@NAMES
def test_state_is_a_tree_of_arrays_that_jit_keeps_as_it_is(name):
    params = random_like(SHAPES, 0)
    transformation = create(options(name, clip_norm=1.0), constant, params)
    state = transformation.init(params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    _, updated = jax.eval_shape(transformation.update, params, state, params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), updated) == described


@pytest.mark.slow
@pytest.mark.parametrize('name', ['adamw', 'lamb', 'adafactor', 'muon'])
def test_frozen_parameters_are_as_if_they_were_not_there(name):
    params, gradients = random_like(SHAPES, 0), random_like(SHAPES, 1)
    frozen = create(
        options(name, frozen=('^encoder/', '^root'), clip_norm=1.0, weight_decay=0.1),
        constant,
        params,
    )
    updates = updates_of(frozen, params, [gradients])
    for part in ('encoder', 'root'):
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates.pop(part)))

    rest = {key: params[key] for key in updates}
    alone = create(options(name, clip_norm=1.0, weight_decay=0.1), constant, rest)
    expected = updates_of(alone, rest, [{key: gradients[key] for key in rest}])
    assert_close(updates, expected, rtol=1e-5, atol=1e-7)
    assert numbers_in_state(frozen, params) == numbers_in_state(alone, rest)


def test_decay_spares_what_matches():
    params = random_like(SHAPES, 0)
    config = options('adamw', weight_decay=0.5, no_decay=('bias', 'scale', '^head/'))
    transformation = create(config, constant, params)
    zeros = jax.tree.map(np.zeros_like, params)
    updates = updates_of(transformation, params, [zeros])
    hidden = updates['encoder']['blocks']['mlp']['hidden']
    for spared in (updates['head']['kernel'], updates['encoder']['norm']['scale'], hidden['bias']):
        np.testing.assert_array_equal(spared, 0)
    np.testing.assert_allclose(
        hidden['kernel'],
        -RATE * 0.5 * params['encoder']['blocks']['mlp']['hidden']['kernel'],
        rtol=1e-6,
    )


def test_the_norm_is_clipped_over_all_parameters():
    params = random_like(SHAPES, 0)
    config = options('sgd', momentum=0.0, clip_norm=2.0)
    updates = updates_of(create(config, constant, params), params, [params])
    norms = [np.linalg.norm(leaf) for leaf in jax.tree.leaves(updates)]
    assert np.linalg.norm(norms) == pytest.approx(2.0 * RATE, rel=1e-5)


VIT = {
    'class_token': (1, 1, D),
    'positions': (1, 5, D),
    'patch_embedding': {'kernel': (2, 2, 3, D), 'bias': (D,)},
    'encoder': {'blocks': stack(3)},
    'norm': {'scale': (D,)},
    'attention_pooling': {'probe_token': (1, 1, D)},
    'head': {'kernel': (D, 10), 'bias': (10,)},
}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lamb'])
@pytest.mark.parametrize('frozen', [(), ('^head/',)])
def test_the_rate_decays_layer_by_layer(name, frozen):
    params, gradients = random_like(VIT, 0), [random_like(VIT, 1)]
    plain, decayed = (
        updates_of(
            create(
                options(name, weight_decay=0.1, frozen=frozen, layer_decay=decay), constant, params
            ),
            params,
            gradients,
        )
        for decay in (None, 0.5)
    )
    for part in ('class_token', 'positions', 'patch_embedding'):
        assert_close(decayed[part], jax.tree.map(lambda x: x * 0.5**4, plain[part]))
    blocks, expected = (tree['encoder']['blocks'] for tree in (decayed, plain))
    for layer, scale in enumerate([0.5**3, 0.5**2, 0.5]):
        assert_close(
            jax.tree.map(lambda x, i=layer: x[i], blocks),
            jax.tree.map(lambda x, i=layer, s=scale: x[i] * s, expected),
        )
    for part in ('norm', 'attention_pooling', 'head'):
        assert_close(decayed[part], plain[part])


@pytest.mark.parametrize(
    ('params', 'stacks'),
    [(SHAPES, 'decoder/blocks, encoder/blocks'), ({'stage': {'kernel': (3, 3, 2, D)}}, 'none')],
)
def test_layer_decay_takes_one_stack(params, stacks):
    with pytest.raises(UserError, match=f'one stack of blocks, not {stacks}'):
        create(options('sgd', layer_decay=0.5), constant, random_like(params, 0))


def test_the_schedule_sets_the_step():
    params = {'weight': jnp.zeros(3)}
    transformation = create(options('sgd', momentum=0.0), lambda step: 0.5 * (step + 1), params)
    state, seen = transformation.init(params), []
    for _ in range(3):
        updates, state = transformation.update({'weight': jnp.ones(3)}, state, params)
        seen.append(float(updates['weight'][0]))
    assert seen == [-0.5, -1.0, -1.5]


# Parameter -> sides of the matrix that muon makes orthogonal, layer by layer; None: left to Adam.
MATRICES = {
    'encoder/blocks/attention/query/kernel': (D, HEADS * HEAD),
    'decoder/blocks/attention/value/kernel': (D, HEADS * HEAD),
    'encoder/blocks/attention/out/kernel': (HEADS * HEAD, D),
    'encoder/blocks/mlp/hidden/kernel': (D, MLP),
    'stage/conv/kernel': (3 * 3 * 2, D),
    'encoder/blocks/attention/query/bias': None,
    'encoder/blocks/mlp/hidden/bias': None,
    'encoder/blocks/temperature': None,
    'encoder/norm/scale': None,
    'encoder/class_token': None,
    'root/kernel': None,
    'head/kernel': None,
}


@pytest.fixture(scope='module')
def muon_updates():
    params, gradients = random_like(SHAPES, 0), random_like(SHAPES, 1)
    transformation = create(options('muon', rms=0.2), lambda step: 1.0, params)
    return updates_of(transformation, params, [gradients]), gradients


@pytest.mark.parametrize('parameter', MATRICES)
def test_muon_makes_hidden_kernels_orthogonal(parameter, muon_updates):
    found, gradients = muon_updates
    for key in parameter.split('/'):
        found, gradients = found[key], gradients[key]
    if MATRICES[parameter] is None:
        # The first update of Adam has one size everywhere.
        np.testing.assert_allclose(found, -np.sign(gradients), rtol=1e-3)
        return
    matrices = np.asarray(found).reshape(-1, *MATRICES[parameter])
    values = np.linalg.svd(matrices, compute_uv=False) / (0.2 * max(MATRICES[parameter]) ** 0.5)
    # Newton-Schulz brings all but the smallest singular values to between 0.7 and 1.2.
    assert values.max() < 1.3
    assert np.median(values) > 0.6


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'frozen': ('encoder/',)}, None),
        ({'frozen': ('encodr/',)}, r"frozen: 'encodr/' matches no parameter.*such as encoder/"),
        ({'frozen': ('(',)}, r"frozen: '\(' is no regular expression"),
        ({'frozen': ('.',)}, 'frozen matches every parameter'),
        ({'no_decay': ('bias$', 'tokens?$', 'positions$')}, None),
        ({'no_decay': ('bais',)}, "no_decay: 'bais' matches no parameter"),
        ({'no_decay': ('[',)}, r"no_decay: '\[' is no regular expression"),
        ({'adam_for': ('*',)}, r"adam_for: '\*' is no regular expression"),
    ],
)
def test_patterns_are_checked(changes, message):
    params = random_like(SHAPES, 0)
    config = options('muon', **changes)
    if message is None:
        create(config, constant, params).init(params)
        return
    with pytest.raises(UserError, match=message):
        create(config, constant, params)


def test_an_unknown_name_is_refused():
    config = options('sgd') | {'name': 'lamp'}
    with pytest.raises(UserError, match="did you mean 'lamb'"):
        create(config, constant, {'weight': jnp.zeros(3)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('optax:nadamw', None),
        ('optax:sgd', None),
        ('optax:lion', None),
        ('optax:adafactor', None),
        ('optax:scale_by_adam', 'not a complete transformation: its updates go along the gradient'),
        ('optax:adamx', "did you mean 'adamax"),
        ('optax:cosine_decay_schedule', 'init_value must be given'),
        ('os:getcwd', 'not an optimizer'),
    ],
)
def test_an_import_path_is_a_complete_transformation(name, message):
    params, config = random_like(SHAPES, 0), base_config()
    overrides = {'optimizer.name': name, 'optimizer.learning_rate': RATE, 'steps': 1}
    if message is not None:
        with pytest.raises(UserError, match=message.replace('?', r'\?')):
            create(complete(config, overrides).optimizer.to_dict(), constant, params)
        return
    optimizer = create(complete(config, overrides).optimizer.to_dict(), constant, params)
    theirs = getattr(optax, name.partition(':')[2])(constant)
    gradients = [random_like(SHAPES, seed) for seed in (1, 2)]
    assert_close(updates_of(optimizer, params, gradients), updates_of(theirs, params, gradients))


def test_only_what_the_config_asks_for_is_wrapped_round_a_given_optimizer():
    params, gradients = random_like(SHAPES, 0), [random_like(SHAPES, 1)]
    config = options('adamw', clip_norm=1.0, frozen=('^head/',), layer_decay=None)
    config['weight_decay'] = None
    updates = updates_of(create(config, constant, params, given=optax.sgd(RATE)), params, gradients)
    rest = {name: tree for name, tree in gradients[0].items() if name != 'head'}
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(rest)))
    expected = jax.tree.map(lambda x: -RATE * x / norm, rest)
    for name, tree in expected.items():
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), updates[name], tree)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates['head']))
    # The weight decay of a recipe is not that of an optimizer which is given in its place.
    create(config | {'weight_decay': 0.1}, constant, params, given=optax.sgd)
    with pytest.raises(UserError, match='go along the gradient'):
        create(config, constant, params, given=optax.scale_by_adam())


def test_layer_decay_reaches_a_model_in_a_model():
    nested = {'vit': VIT, 'other': {'kernel': (3, D)}}
    stacks = Stacks({'vit/encoder/blocks'}, {'vit': STACKS.before['']})
    params, gradients = random_like(nested, 0), [random_like(nested, 1)]
    plain, decayed = (
        updates_of(
            create(options('sgd', layer_decay=decay), constant, params, stacks), params, gradients
        )
        for decay in (None, 0.5)
    )
    for part in ('class_token', 'positions', 'patch_embedding'):
        scaled = jax.tree.map(lambda x: x * 0.5**4, plain['vit'][part])
        assert_close(decayed['vit'][part], scaled)
    assert_close(decayed['other'], plain['other'])
    with pytest.raises(UserError, match='no module declares what comes before the stack'):
        create(options('sgd', layer_decay=0.5), constant, params, Stacks({'vit/encoder/blocks'}))


class Model(nn.Module):
    """A ViT with a head of another kind, whose submodule is called `blocks` and is no stack."""

    def setup(self):
        self.vit = ViT(image_size=4, patch_size=2, width=D, depth=2, num_heads=HEADS, num_classes=0)
        self.blocks = nn.Dense(6)

    def __call__(self, images):
        return self.blocks(self.vit(images))


class Layers(nn.Module):
    """A stack of its own, under another name."""

    stacked = ('layers',)

    @nn.compact
    def __call__(self, x):
        axes, rngs = {'params': 0}, {'params': True}
        scanned = nn.scan(Layer, variable_axes=axes, split_rngs=rngs, length=3)
        return scanned(name='layers')(x, None)[0]


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(x.shape[-1], name='dense')(x), None


def abstract(model, *shape):
    """Shapes of the parameters of a model, and its stacks."""
    shapes, stacks = record_stacks(model.init, jax.random.key(0), jnp.zeros(shape))
    return jax.tree.map(lambda leaf: leaf.shape, shapes['params']), stacks


@pytest.mark.slow
def test_layer_decay_of_a_real_model_in_a_model():
    shapes, stacks = abstract(Model(), 1, 4, 4, 3)
    params, gradients = random_like(shapes, 0), [random_like(shapes, 1)]
    plain, decayed = (
        updates_of(
            create(options('sgd', layer_decay=decay), constant, params, stacks), params, gradients
        )
        for decay in (None, 0.1)
    )
    scales = jax.tree.map(lambda new, old: np.unique(np.round(new / old, 5)), decayed, plain)
    for name in ('patch_embedding', 'class_token', 'positions'):
        for scale in jax.tree.leaves(scales['vit'][name]):
            np.testing.assert_allclose(scale, [0.001])
    for scale in jax.tree.leaves(scales['vit']['encoder']):
        np.testing.assert_allclose(scale, [0.01, 0.1])
    for scale in jax.tree.leaves((scales['vit']['norm'], scales['blocks'])):
        np.testing.assert_allclose(scale, [1])


@pytest.mark.slow
@pytest.mark.parametrize('name', ['lamb', 'adafactor', 'muon'])
@pytest.mark.parametrize(
    ('model', 'shape', 'where'),
    [(Model(), (1, 4, 4, 3), ('blocks',)), (Layers(), (1, D), ('layers', 'dense'))],
    ids=['not stacked', 'stacked'],
)
def test_what_is_measured_a_layer_follows_the_declaration(name, model, shape, where):
    """A part of a model learns as it does alone: one matrix, or three."""
    changes = {'momentum_dtype': 'float32', 'factor_from': 2} if name == 'adafactor' else {}
    config = options(name, no_decay=(), **changes)
    shapes, stacks = abstract(model, *shape)
    params, gradients = random_like(shapes, 0), random_like(shapes, 1)
    found = updates_of(create(config, constant, params, stacks), params, [gradients])
    for part in where:
        found, params, gradients = found[part], params[part], gradients[part]
    kernels = params['kernel'], gradients['kernel'], found['kernel']
    if 'layers' not in where:
        kernels = tuple(x[None] for x in kernels)
    for param, gradient, update in zip(*kernels, strict=True):
        param, gradient = {'kernel': param}, {'kernel': gradient}
        alone = updates_of(create(config, constant, param, Stacks()), param, [gradient])
        np.testing.assert_allclose(update, alone['kernel'], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['lamb', 'adafactor', 'muon'])
def test_a_stack_of_stacks_learns_as_its_layers_would(name):
    changes = {'momentum_dtype': 'float32', 'factor_from': 2} if name == 'adafactor' else {}
    config = options(name, no_decay=(), **changes)
    shape = {'outer': {'blocks': {'kernel': (3, 2, D, MLP)}}}
    params, gradients = random_like(shape, 0), random_like(shape, 1)
    stacks = Stacks({'outer', 'outer/blocks'})
    found = updates_of(create(config, constant, params, stacks), params, [gradients])
    param, gradient, update = (
        tree['outer']['blocks']['kernel'] for tree in (params, gradients, found)
    )
    for place in np.ndindex(3, 2):
        one, other = {'kernel': param[place]}, {'kernel': gradient[place]}
        alone = updates_of(create(config, constant, one, Stacks()), one, [other])
        np.testing.assert_allclose(update[place], alone['kernel'], rtol=1e-4, atol=1e-6)
