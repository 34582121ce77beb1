from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import vitjax
from vitjax.errors import UserError
from vitjax.layers.block import BlockConfig
from vitjax.layers.stacks import Stacks, record_stacks
from vitjax.layers.transformer import Encoder
from vitjax.models.vit import ViT

SIZES = dict(
    image_size=8, patch_size=4, in_channels=1, width=8, depth=2, num_heads=2, num_classes=3
)
IMAGES = jnp.zeros((1, 8, 8, 1))


class Nested(nn.Module):
    """A ViT in another model, beside a submodule that is only called `blocks`."""

    scan: bool = False
    remat: bool = False

    def setup(self):
        self.vit = vitjax.create_model('vit', **SIZES, scan=self.scan, remat=self.remat)
        self.blocks = nn.Dense(3)

    def __call__(self, images):
        return self.blocks(self.vit(images))


class Own(nn.Module):
    """A stack of its own under another name."""

    stacked = ('layers',)

    @nn.compact
    def __call__(self, images):
        layers = nn.vmap(
            nn.Dense,
            variable_axes={'params': 0},
            split_rngs={'params': True},
            in_axes=None,
            axis_size=3,
        )
        return layers(4, name='layers')(images).mean(axis=0)


class Stem(nn.Module):
    """Something of its own before a ViT."""

    before_blocks = ('stem',)

    @nn.compact
    def __call__(self, images):
        stem = nn.Dense(1, name='stem')(images)
        return ViT(**SIZES, num_registers=1, name='vit')(stem)


class Compiled(nn.Module):
    """A stack that is compiled by itself: its trace is kept."""

    @nn.compact
    def __call__(self, x):
        return nn.jit(Encoder)(2, BlockConfig(2, 8), name='encoder')(x)[0]


class Body(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return Encoder(2, BlockConfig(2, 8), name='encoder')(x)[0], None


class Twice(nn.Module):
    """A stack of stacks."""

    stacked = ('outer',)

    @nn.compact
    def __call__(self, x):
        axes, rngs = {'params': 0}, {'params': True}
        outer = nn.scan(nn.remat(Body), variable_axes=axes, split_rngs=rngs, length=3)
        return outer(name='outer')(x, None)[0]


class Declares(nn.Module):
    """Two dense layers of unlike widths, about which anything can be declared."""

    stacked: Any = ()
    before_blocks: Any = None

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name='first')(nn.Dense(2, name='second')(x))


TOKENS = jnp.zeros((1, 3, 4))


def stacks_of(model, *inputs):
    return record_stacks(model.init, jax.random.key(0), *inputs)[1]


@pytest.mark.parametrize(
    ('model', 'inputs', 'paths'),
    [
        (vitjax.create_model('vit', **SIZES), (IMAGES,), {'encoder/blocks'}),
        (Nested(), (IMAGES,), {'vit/encoder/blocks'}),
        (Nested(scan=True, remat=True), (IMAGES,), {'vit/encoder/blocks'}),
        (Own(), (IMAGES,), {'layers'}),
        (nn.Dense(3), (IMAGES,), set()),
        (Encoder(2, BlockConfig(2, 8)), (TOKENS,), {'blocks'}),
        (Compiled(), (TOKENS,), {'encoder/blocks'}),
        (Twice(), (TOKENS,), {'outer', 'outer/encoder/blocks'}),
        (
            vitjax.create_model('mae', **{k: x for k, x in SIZES.items() if k != 'num_classes'}),
            (IMAGES,),
            {'vit/encoder/blocks', 'decoder/blocks'},
        ),
    ],
    ids=['vit', 'nested', 'scan', 'own', 'none', 'encoder', 'jit', 'stack of stacks', 'mae'],
)
def test_record_stacks_finds_declarations_at_any_depth(model, inputs, paths):
    for _ in range(2):  # what is traced already is found, too
        assert stacks_of(model, *inputs).paths == paths


@pytest.mark.parametrize(
    ('declared', 'message'),
    [
        ({'stacked': False}, None),
        ({'before_blocks': None}, None),
        ({'stacked': 'first'}, "Declares.stacked must be a tuple of names.* not 'first'"),
        ({'stacked': ('third',)}, "stacked names 'third', which is not among .*: first, second"),
        (
            {'before_blocks': ('x',)},
            "before_blocks names 'x', which is not among .*: first, second",
        ),
        ({'stacked': ('first',)}, "'first', whose parameters have no common axis of layers"),
    ],
)
def test_record_stacks_refuses_wrong_declarations(declared, message):
    model = Declares(**declared)
    if message is None:
        assert stacks_of(model, TOKENS) == Stacks()
        return
    with pytest.raises(UserError, match=message):
        stacks_of(model, TOKENS)


def test_layer_axes_of_parameters_and_of_optimizer_state():
    stacks = stacks_of(Nested(), IMAGES)
    for name, axes in [
        ('vit/encoder/blocks/mlp/out/kernel', 1),
        ('blocks/kernel', 0),
        ('vit/head/kernel', 0),
    ]:
        assert stacks.layer_axes(name) == axes
        assert stacks.state_layer_axes(f'opt_state/1/mu/{name}') == axes
        assert stacks.stack_of(name) == ('vit/encoder/blocks' if axes else None)
    twice = stacks_of(Twice(), TOKENS)
    inner = 'outer/encoder/blocks/mlp/out/kernel'
    assert twice.layer_axes(inner) == twice.state_layer_axes(f'params/{inner}') == 2
    assert twice.stack_of(inner) == 'outer'


def test_stack_at_the_root_is_distinguished_from_others_of_its_name():
    stacks = Stacks({'blocks'})
    assert stacks.layer_axes('blocks/kernel') == 1
    assert stacks.layer_axes('head/blocks/kernel') == 0


@pytest.mark.parametrize(
    ('model', 'before'),
    [
        (Nested(), {'vit/class_token', 'vit/positions', 'vit/patch_embedding/kernel'}),
        (Stem(), {'stem/bias', 'vit/register_tokens', 'vit/patch_embedding/bias'}),
    ],
)
def test_is_before_follows_the_modules_around_a_stack(model, before):
    stacks = stacks_of(model, IMAGES)
    for name in before:
        assert stacks.is_before(name, 'vit/encoder/blocks')
    for name in ('patch_embedding/kernel', 'vit/head/kernel', 'blocks/kernel', 'vit/norm/scale'):
        assert not stacks.is_before(name, 'vit/encoder/blocks')


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(pooling='map', num_registers=2, norm_embeddings=True, positions='sincos2d'),
        dict(distillation='head'),
        dict(image_size=16, patch_size=8, stem_depths=(1,), stem_width=8),
    ],
)
def test_vit_declares_all_parameters_before_its_blocks(options):
    model = vitjax.create_model('vit', **SIZES | options)
    size = options.get('image_size', 8)
    shapes, stacks = record_stacks(
        model.init, jax.random.key(0), jnp.zeros((1, size, size, 1), jnp.float32)
    )
    after = {'encoder', 'norm', 'attention_pooling', 'head', 'distillation_head'}
    assert set(shapes['params']) - after == set(stacks.before[''])
