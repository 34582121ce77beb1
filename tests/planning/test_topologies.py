import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from vitjax.errors import UserError
from vitjax.planning import topologies
from vitjax.planning.topologies import CHIPS, parse_topology


@pytest.mark.parametrize(
    ('name', 'expected', 'chips'),
    [
        ('v5e:4x4', 'v5e:4x4', 16),
        ('V5E:2x4', 'v5e:2x4', 8),
        ('v5litepod-16', 'v5e:4x4', 16),
        ('v5e-256', 'v5e:16x16', 256),
        ('v6e-8', 'v6e:2x4', 8),
        ('v6e-4x8', 'v6e:4x8', 32),
        ('v4-8', 'v4:2x2x1', 4),
        ('v5p-8', 'v5p:2x2x1', 4),
        ('v5p-128', 'v5p:4x4x4', 64),
        ('v5p:4x4x12', 'v5p:4x4x12', 192),
        ('tpu7x-8', 'tpu7x:2x2x1', 4),
        ('v7x:2x2x2', 'tpu7x:2x2x2', 8),
        ('h100x8', 'h100x8', 8),
        ('A100x4', 'a100x4', 4),
        ('b200:8', 'b200x8', 8),
    ],
)
def test_parse_topology_accepts_shapes_and_accelerator_types(name, expected, chips):
    topology = parse_topology(name)
    assert (str(topology), topology.chips) == (expected, chips)
    assert parse_topology(str(topology)) == topology


def test_parse_topology_with_slices():
    topology = parse_topology('v5e:2x2', slices=3)
    assert (str(topology), topology.chips) == ('3 x v5e:2x2', 12)
    assert topology.devices_a_slice == 4
    assert parse_topology('tpu7x:2x2x1', slices=2).devices_a_slice == 8


@pytest.mark.parametrize(
    ('name', 'links'),
    [
        *(('v5e:1x1', 0), ('v5e:2x2', 2), ('v5e:2x4', 2.5), ('v5e:8x8', 3.5), ('v6e:8x16', 3.75)),
        *(('v5e:16x16', 4), ('v4:2x2x1', 2), ('v5p:2x2x4', 3.5), ('v5p:4x4x4', 6), ('h100x8', 1)),
    ],
)
def test_interconnect_counts_the_links_of_a_chip(name, links):
    topology = parse_topology(name)
    assert topology.interconnect == links * topology.chip.link


@pytest.mark.parametrize(
    ('name', 'slices', 'words'),
    [
        ('v5e', 1, ['v5e:4x4', 'v5litepod-16', ', '.join(CHIPS)]),
        ('v5f:4x4', 1, ["unknown chip 'v5f'", 'did you mean']),
        ('v5e:3x4', 1, ['v5e has no 3x4', '2x4, 4x4']),
        ('v5e:4x4x4', 1, ['v5e has no 4x4x4']),
        ('v5p:4x4', 1, ['v5p has no 4x4', '2x2x1']),
        ('v5p:4x4x6', 1, ['v5p has no 4x4x6']),
        ('v5litepod-12', 1, ['there is no v5litepod-12', 'v5litepod-8 (2x4), v5litepod-16 (4x4)']),
        ('v5p-4', 1, ['there is no v5p-4', 'v5p-8 (2x2x1), v5p-16 (2x2x2)']),
        ('v5e:4x4', 0, ['--num_slices']),
        ('h100x16', 1, ['there is no h100x16', 'h100x8', '--num_slices']),
        ('h100x2x4', 1, ['there is no h100x2x4']),
        ('g100x8', 1, ["unknown chip 'g100'"]),
    ],
)
def test_parse_topology_refuses_unknown_names_and_lists_known_ones(name, slices, words):
    with pytest.raises(UserError) as error:
        parse_topology(name, slices)
    for word in words:
        assert word in str(error.value)


def test_accelerator_types_have_one_shape():
    for kind, chip in CHIPS.items():
        for shape in chip.shapes:
            topology = parse_topology(f'{kind}:{shape}')
            assert parse_topology(f'{kind}-{chip.cores * topology.chips}') == topology


@pytest.mark.parametrize(('name', 'extra'), [('v5e:2x2', 'plan-tpu'), ('h100x8', 'plan-gpu')])
def test_devices_without_the_compiler_names_the_extra(monkeypatch, name, extra):
    monkeypatch.setattr(topologies, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=rf"pip install 'vitjax\[{extra}\]'"):
        topologies.devices(parse_topology(name))


def test_devices_describes_gpus_to_the_compiler(monkeypatch):
    asked = {}
    monkeypatch.setattr(topologies, 'find_spec', lambda name: name == 'jax_cuda12_plugin')
    monkeypatch.setattr(
        'jax.experimental.topologies.get_topology_desc',
        lambda **options: asked.update(options) or SimpleNamespace(devices=['gpu'] * 16),
    )
    assert len(topologies.devices(parse_topology('h100x8', slices=2))) == 16
    assert (asked['platform'], asked['topology']) == ('cuda', '2x1x8')
    target = asked['target_config']
    assert target.count('{') == target.count('}') == 3
    for fact in ('{ major: 9 }', 'core_count: 132', 'memory_bandwidth: 3350000000000'):
        assert fact in target


def test_devices_reports_errors_of_the_compiler_in_one_line(monkeypatch):
    def refuse(**options):
        raise RuntimeError('no\nsuch thing')

    monkeypatch.setattr(topologies, 'find_spec', lambda name: True)
    monkeypatch.setattr('jax.experimental.topologies.get_topology_desc', refuse)
    with pytest.raises(UserError, match=r'refuses v5e:2x2: no such thing$'):
        topologies.devices(parse_topology('v5e:2x2'))


MESHES = """
import json
from vitjax.planning.topologies import CHIPS, compile_only, devices, parse_topology
from vitjax.errors import UserError
from vitjax.training.sharding import make_mesh

compile_only()
found = {}
for kind, chip in CHIPS.items():
    for shape in () if chip.target else chip.shapes:
        parts = devices(parse_topology(f'{kind}:{shape}'))
        make_mesh({'data': -1, 'fsdp': len(parts), 'tensor': 1}, parts)
        if len(parts) >= 8:
            make_mesh({'data': -1, 'fsdp': len(parts) // 4, 'tensor': 2}, parts)
        found[f'{kind}:{shape}'] = len(parts)
parts = devices(parse_topology('v5e:2x4', 2))
mesh = make_mesh({'data': -1, 'fsdp': 4, 'tensor': 1}, parts)
found['slices'] = [sorted({part.slice_index for part in row.flat}) for row in mesh.devices]
try:
    make_mesh({'data': 1, 'fsdp': 16, 'tensor': 1}, parts)
except UserError as error:
    found['error'] = str(error)
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None, reason="needs pip install 'vitjax[plan-tpu]'"
)
def test_compiler_accepts_every_topology_and_its_meshes(environment):
    result = subprocess.run(
        [sys.executable, '-c', MESHES],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    found = json.loads(result.stdout)
    assert found.pop('slices') == [[0], [0], [1], [1]]
    assert 'data=1 does not divide over 2 slices' in found.pop('error')
    for name, count in found.items():
        topology = parse_topology(name)
        assert count == topology.chips * topology.chip.devices
