import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import vitjax
from vitjax.layers.block import BlockConfig
from vitjax.layers.stacks import record_stacks
from vitjax.layers.transformer import Encoder

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


def stacks_of(model, *inputs):
    return record_stacks(jax.eval_shape, model.init, jax.random.key(0), *inputs)[1]


@pytest.mark.parametrize(
    ('model', 'inputs', 'paths'),
    [
        (vitjax.create_model('vit', **SIZES), (IMAGES,), {'encoder/blocks'}),
        (Nested(), (IMAGES,), {'vit/encoder/blocks'}),
        (Nested(scan=True, remat=True), (IMAGES,), {'vit/encoder/blocks'}),
        (Own(), (IMAGES,), {'layers'}),
        (nn.Dense(3), (IMAGES,), set()),
        (Encoder(2, BlockConfig(2, 8)), (jnp.zeros((1, 3, 4)),), {'blocks'}),
        (
            vitjax.create_model('mae', **{k: x for k, x in SIZES.items() if k != 'num_classes'}),
            (IMAGES,),
            {'vit/encoder/blocks', 'decoder/blocks'},
        ),
    ],
    ids=['vit', 'nested', 'scan', 'own', 'none', 'encoder', 'mae'],
)
def test_stacks_are_declared_at_any_depth(model, inputs, paths):
    assert stacks_of(model, *inputs).paths == paths


def test_names_of_parameters_and_of_their_optimizer_state():
    stacks = stacks_of(Nested(), IMAGES)
    assert stacks.is_stacked('vit/encoder/blocks/mlp/out/kernel')
    assert stacks.is_stacked('opt_state/1/mu/vit/encoder/blocks/mlp/out/kernel')
    assert not stacks.is_stacked('blocks/kernel')
    assert not stacks.is_stacked('vit/head/kernel')
    for name, before in [('vit/patch_embedding/kernel', True), ('vit/head/kernel', False)]:
        assert stacks.is_before(name, 'vit/encoder/blocks') == before
    assert not stacks.is_before('patch_embedding/kernel', 'vit/encoder/blocks')
