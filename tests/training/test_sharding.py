import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from vitjax.layers.stacks import Stacks
from vitjax.training import sharding

LEARN = """
import json, sys
import jax
from vitjax.config import read_config
from vitjax.training.build import build_experiment
from vitjax.training.sharding import to_devices

recipe, *cases = sys.argv[1:]
learnt = {}
for case in cases:
    model, mesh = case.split()
    sizes = dict(zip(('data', 'fsdp', 'tensor'), mesh.split('x')))
    overrides = {f'mesh.{axis}': size for axis, size in sizes.items()}
    overrides |= {'log.every': '1', 'task.mixup': '0.2'}  # which mixes images of two devices
    if model == 'vit':
        overrides['model.width'] = '64'
    experiment = build_experiment(read_config(f'{recipe}:{model}', overrides))
    state, step = experiment.init_state(), experiment.train_step()
    batches = iter(experiment.data.train_batches(16, (0, 1)))
    losses = []
    with experiment.context():
        for _ in range(20):
            state, values = step(state, to_devices(next(batches), experiment.mesh))
            losses.append(values['loss'].item())
    largest = max(jax.tree.leaves(state.params), key=lambda leaf: leaf.size)
    learnt[case] = {
        'losses': losses,
        'statistics': [leaf.tolist() for leaf in jax.tree.leaves(state.model_state)],
        'share': largest.addressable_shards[0].data.size / largest.size,
    }
print(json.dumps(learnt))
"""


def learn(recipe, environment, devices, *cases):
    command = [sys.executable, '-c', LEARN, recipe, *cases]
    variables = environment(devices, optimise=False)
    result = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    return json.loads(result.stdout)


@pytest.mark.slow
def test_eight_devices_learn_what_one_does(recipe, environment):
    alone = learn(recipe, environment, 1, 'vit 1x1x1', 'cnn 1x1x1')
    shares = {'vit 8x1x1': 1, 'vit 1x8x1': 1 / 8, 'vit 2x2x2': 1 / 4, 'cnn 4x2x1': 1}
    together = learn(recipe, environment, 8, *shares)
    assert {case: learnt['share'] for case, learnt in together.items()} == shares
    for case, learnt in together.items():
        expected = alone[f'{case.split()[0]} 1x1x1']
        assert len(set(expected['losses'])) == 20
        assert bool(expected['statistics']) == case.startswith('cnn')
        np.testing.assert_allclose(learnt['losses'], expected['losses'], rtol=1e-4, err_msg=case)
        for found, value in zip(learnt['statistics'], expected['statistics'], strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5, err_msg=case)


@pytest.mark.parametrize(
    ('name', 'shape', 'expected'),
    [
        ('encoder/blocks/attention/query/kernel', (4, 64, 4, 16), P(None, 'fsdp', 'tensor', None)),
        ('encoder/blocks/attention/out/kernel', (4, 4, 16, 64), P(None, 'tensor', None, 'fsdp')),
        ('attention_pooling/attention/key/kernel', (64, 4, 16), P('fsdp', 'tensor', None)),
        ('encoder/blocks/mlp/hidden/kernel', (4, 64, 256), P(None, 'fsdp', 'tensor')),
        ('opt_state/1/mu/encoder/blocks/mlp/out/kernel', (4, 256, 64), P(None, 'tensor', 'fsdp')),
        ('encoder/blocks/attention/query/kernel', (4, 63, 3, 21), P(None, None, None, None)),
        ('encoder/blocks/mlp/hidden/kernel', (4, 63, 256), P(None, None, 'tensor')),
        ('encoder/blocks/mlp/out/kernel', (4, 257, 64), P(None, None, 'fsdp')),
        ('encoder/blocks/attention/query/kernel', (4, 63, 4, 64), P(None, None, 'tensor', 'fsdp')),
        ('encoder/blocks/attention/query/bias', (4, 64, 64), P(None, 'tensor', None)),
        ('patch_embedding/kernel', (16, 16, 3, 64), P(None, None, None, 'fsdp')),
        ('head/kernel', (64, 1000), P(None, 'fsdp')),
        ('norm/scale', (64,), P()),
        ('step', (), P()),
    ],
)
def test_how_parameters_are_cut(name, shape, expected):
    mesh = jax.sharding.AbstractMesh((1, 2, 2), sharding.AXES, axis_types=(AxisType.Auto,) * 3)
    layers = Stacks({'encoder/blocks'}).state_layer_axes(name)
    assert sharding._partition(name, shape, mesh, layers) == expected
