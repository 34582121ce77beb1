import json
import subprocess
import sys

import numpy as np
import pytest

from vitjax.config import complete, read_config
from vitjax.errors import UserError
from vitjax.planning.flops import model_cost
from vitjax.planning.plan import Plan, meshes, roofline, used_and_limit
from vitjax.planning.topologies import CHIPS, parse_topology
from vitjax.training.build import build_experiment

PLAN = """
import dataclasses, json, sys
import jax
from vitjax.planning.plan import plan_step
from vitjax.planning.topologies import parse_topology
from vitjax.config import read_config
from vitjax.training.build import build_experiment

found = {}
for case in sys.argv[2:]:
    mesh, _, machines = case.partition(' on ')
    data, fsdp = mesh.split('x')
    changes = {'mesh.data': data, 'mesh.fsdp': fsdp, 'model.width': '64', 'model.drop_path': '0'}
    changes |= {'data.name': 'folder', 'data.path': '/nowhere', 'model.scan': 'True'}
    experiment = build_experiment(read_config(sys.argv[1], changes), jax.devices(), read_data=False)
    topology = parse_topology('h100x4', slices=2) if machines else parse_topology('v5e:2x4')
    found[case] = dataclasses.asdict(plan_step(experiment, topology))
    found['parameters'] = sum(x.size for x in jax.tree.leaves(experiment.abstract_state.params))
print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def plans(recipe, environment):
    """Plans of a tiny model on eight CPU devices, by mesh, and its number of parameters."""
    cases = '8x1', '1x8', '8x1 on machines', '2x4 on machines'
    command = [sys.executable, '-c', PLAN, recipe, *cases]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(8), check=True)
    return json.loads(result.stdout)


@pytest.mark.slow
def test_plan_step_with_data_parallelism_reduces_gradients_once(plans):
    gradients = 4 * plans['parameters']
    sent = plans['8x1']['collectives']
    assert sent.keys() == {'all-reduce'}
    assert 0 <= sent['all-reduce'] - 2 * 7 / 8 * gradients < 1000  # and some metrics


def test_plan_step_with_fsdp_gathers_parameters_and_needs_less_memory(plans):
    assert plans['1x8']['collectives']['all-gather'] > 0
    assert plans['1x8']['memory']['arguments'] < 0.5 * plans['8x1']['memory']['arguments']


@pytest.mark.parametrize('mesh', ['8x1', '2x4'])
def test_plan_step_network_is_a_part_of_the_collectives_of_gpus(plans, mesh):
    """A quarter of the bytes: 2 of the 8 links of a ring leave a machine; or gradients are split in four."""
    plan, chip = plans[f'{mesh} on machines'], CHIPS['h100']
    sent, gradients = sum(plan['collectives'].values()), 4 * plans['parameters']
    expected = {'8x1': sent / 4, '2x4': gradients / 4}[
        mesh
    ]  # except small parameters, which are not sharded
    assert plan['network'] == pytest.approx(expected, rel=0.1)
    assert plan['seconds']['network'] == pytest.approx(plan['network'] / chip.network)
    inside = (sent - plan['network']) / parse_topology('h100x4').interconnect
    assert plan['seconds']['interconnect'] == pytest.approx(inside)


def test_plan_step_flops_do_not_depend_on_the_mesh(plans, recipe):
    """Three times the forward pass, except the gradient of the images."""
    config = read_config(str(recipe), {'model.width': '64'})
    _, forward = model_cost(build_experiment(config, read_data=False).model)
    embedding = 2 * 4 * 16 * 64  # patches, values of each, width
    assert plans['8x1']['flops'] == config.batch_size * (3 * forward - embedding)
    assert plans['1x8']['flops'] == plans['8x1']['flops']


def test_plan_bound_is_the_slowest_resource(plans):
    plan = Plan(**plans['8x1'])
    assert plan.fits
    assert plan.step_time == plan.seconds[plan.bound] == max(plan.seconds.values()) > 0
    assert plan.unknown_loops == []


def test_planning_needs_a_data_set_of_known_shapes(recipe):
    with pytest.raises(UserError, match="unknown data set 'digit'; did you mean 'digits'"):
        build_experiment(read_config(str(recipe), {'data.name': 'digit'}), read_data=False)


def test_roofline():
    chip = CHIPS['v5e']
    topology = parse_topology('v5e:16x16')
    amounts = 256 * chip.flops, 2 * chip.memory_bandwidth, 3 * 4 * chip.link
    times = {'compute': 1, 'memory': 2, 'interconnect': 3}
    assert roofline(topology, *amounts) == pytest.approx(times)
    two = parse_topology('v5e:16x16', slices=2)
    seconds = roofline(two, *amounts, network=4 * chip.network)
    assert seconds == pytest.approx(times | {'compute': 0.5, 'network': 4})


def test_roofline_of_a_chip_with_two_devices():
    chip = CHIPS['tpu7x']
    topology = parse_topology('tpu7x:2x2x1', slices=2)
    seconds = roofline(topology, 8 * chip.flops, chip.memory_bandwidth, 2 * chip.link, chip.network)
    assert seconds == pytest.approx({'compute': 1, 'memory': 2, 'interconnect': 2, 'network': 2})


def test_roofline_of_a_single_chip_has_no_interconnect():
    assert roofline(parse_topology('v5e:1x1'), 1, 1, 0)['interconnect'] == 0


@pytest.mark.parametrize(
    'message',
    [
        'Ran out of memory in memory space hbm. Used 26.5G of 15.75G hbm. Exceeded by 10.75G.',
        'Ran out of memory on HBM, the total memory required for HLO temporaries (26.5G) exceeds '
        'available HBM (15.75G).',
    ],
)
def test_plan_step_that_does_not_fit(message):
    needed, limit = used_and_limit(f'RESOURCE_EXHAUSTED: {message}')
    assert (needed / 2**30, limit / 2**30) == (26.5, 15.75)
    plan = Plan(flops=1, needed=needed, limit=limit)
    assert not plan.fits
    assert plan.bound is None
    assert plan.step_time is None
    with pytest.raises(RuntimeError, match='some other'):
        used_and_limit('RESOURCE_EXHAUSTED: some other resource')


@pytest.mark.parametrize(
    ('devices', 'slices'), [(1, 1), (4, 1), (8, 1), (16, 2), (24, 3), (256, 1)]
)
def test_meshes_multiply_to_the_number_of_devices(devices, slices):
    tried = list(meshes(devices, slices))
    assert len({tuple(mesh.values()) for mesh in tried}) == len(tried) > 0
    for mesh in tried:
        assert np.prod(list(mesh.values())) == devices
        assert mesh['data'] % slices == 0
    assert {'data': slices, 'fsdp': devices // slices, 'tensor': 1} in tried


def shapes(batch):
    return {name: (value.shape, value.dtype) for name, value in batch.items()}


def test_shapes_of_images_that_are_not_read_equal_those_of_read_ones(recipe):
    config = read_config(str(recipe))
    assert_same_batches(config, build_experiment(config).data)


def test_shapes_of_sentences_that_are_not_read_equal_those_of_read_ones(translation_config):
    config = complete(translation_config)
    assert_same_batches(config, build_experiment(config).data)


def assert_same_batches(config, data):
    changes = {'data.path': '/nowhere'}
    unread = build_experiment(complete(config, changes), read_data=False)
    batch = next(iter(data.train_batches(config.batch_size, (0, 1))))
    assert shapes(unread.abstract_batch()) == shapes(batch)
    assert unread.lengths.total > 0
