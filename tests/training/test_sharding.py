import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from vitjax.training import sharding

LOSSES = """
import json, sys
import jax
from vitjax.config import read_config
from vitjax.training.experiment import Experiment
from vitjax.training.sharding import to_devices

recipe, *meshes = sys.argv[1:]
losses = {}
for mesh in meshes:
    sizes = dict(zip(('data', 'fsdp', 'tensor'), mesh.split('x')))
    overrides = {f'mesh.{axis}': size for axis, size in sizes.items()}
    experiment = Experiment(read_config(recipe, overrides | {'model.width': '64', 'log.every': '1'}))
    state, step = experiment.init_state(), experiment.train_step()
    batches = iter(experiment.data.train_batches(16, (0, 1)))
    with experiment.context():
        losses[mesh] = []
        for _ in range(20):
            state, values = step(state, to_devices(next(batches), experiment.mesh))
            losses[mesh].append(values['loss'].item())
    kernel = state.params['encoder']['blocks']['mlp']['hidden']['kernel']
    losses[mesh].append(kernel.addressable_shards[0].data.size / kernel.size)
print(json.dumps(losses))
"""


def losses(recipe, environment, devices, *meshes):
    command = [sys.executable, '-c', LOSSES, recipe, *meshes]
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment(devices), check=True
    )
    return json.loads(result.stdout)


def test_eight_devices_learn_what_one_does(recipe, environment):
    alone = losses(recipe, environment, 1, '1x1x1')['1x1x1'][:20]
    together = losses(recipe, environment, 8, '8x1x1', '1x8x1', '2x2x2')
    shares = {mesh: values.pop() for mesh, values in together.items()}
    for mesh, values in together.items():
        np.testing.assert_allclose(values, alone, rtol=1e-4, err_msg=mesh)
    assert shares == {'8x1x1': 1, '1x8x1': 1 / 8, '2x2x2': 1 / 4}
    assert len(set(alone)) == 20


@pytest.mark.parametrize(
    ('name', 'shape', 'expected'),
    [
        ('encoder/blocks/attention/query/kernel', (4, 64, 4, 16), P(None, 'fsdp', 'tensor', None)),
        ('encoder/blocks/attention/out/kernel', (4, 4, 16, 64), P(None, 'tensor', None, 'fsdp')),
        ('attention_pooling/attention/key/kernel', (64, 4, 16), P('fsdp', 'tensor', None)),
        ('encoder/blocks/mlp/hidden/kernel', (4, 64, 256), P(None, 'fsdp', 'tensor')),
        ('opt_state/1/mu/encoder/blocks/mlp/out/kernel', (4, 256, 64), P(None, 'tensor', 'fsdp')),
        ('encoder/blocks/attention/query/kernel', (4, 63, 3, 21), P(None, None, None, None)),
        ('patch_embedding/kernel', (16, 16, 3, 64), P(None, None, None, 'fsdp')),
        ('head/kernel', (64, 1000), P(None, 'fsdp')),
        ('norm/scale', (64,), P()),
        ('step', (), P()),
    ],
)
def test_how_parameters_are_cut(name, shape, expected):
    mesh = jax.sharding.AbstractMesh((1, 2, 2), sharding.AXES, axis_types=(AxisType.Auto,) * 3)
    assert sharding._partition(name, shape, mesh) == expected
