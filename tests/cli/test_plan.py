import dataclasses
import importlib.util
import json
import re
import types

import pytest

from vitjax.cli import main
from vitjax.errors import UserError
from vitjax.planning import topologies
from vitjax.planning.plan import Plan, meshes

FITTING = Plan(
    flops=3 * 10**12,
    needed=3 * 2**30 + 2**20,
    limit=2**34,
    memory={'arguments': 2**30, 'temporaries': 2**31, 'output': 0, 'program': 2**20},
    collectives={'all-reduce': 5 * 2**20},
    memory_traffic=2**32,
    seconds={'compute': 0.001, 'memory': 0.005, 'interconnect': 0.0001},
)
TOO_LARGE = Plan(3 * 10**12, needed=int(26.5 * 2**30), limit=int(15.75 * 2**30))


@pytest.fixture
def planned(monkeypatch, recipe):
    """Runs `vitjax plan` with given plans instead of compiling: (exit code, stdout, stderr)."""
    given = []

    def run(plans, *args, devices=16):
        given[:] = plans
        monkeypatch.setattr(topologies, 'devices', lambda topology: [object()] * devices)
        return main(['plan', '--config', str(recipe), '--topology', 'v5e:4x4', '--debug', *args])

    def build(config, devices, read_data):
        assert not read_data
        mesh = types.SimpleNamespace(shape=dict(config.mesh))
        return config, types.SimpleNamespace(mesh=mesh)

    monkeypatch.setattr('vitjax.training.build.build', build)
    monkeypatch.setattr('vitjax.planning.plan.plan_step', lambda *_: given.pop(0))
    monkeypatch.setattr(topologies, 'compile_only', lambda: None)
    return run


def test_plan_table_of_a_step_that_fits(planned, capsys):
    assert planned([FITTING], '--config.mesh.fsdp=16') == 0
    title, verdict, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith('vit, batch 16, float32, on v5e:4x4 (16 chips), mesh data -1 x fsdp 16')
    assert verdict == 'fits: 3.00 GiB of 16.00 GiB a device'
    assert [row[:20].strip() for row in rows] == [
        *FITTING.memory,
        'FLOPs',
        'all-reduce',
        'memory traffic',
        'step time, estimate',
    ]
    assert '5 ms   bound by memory: compute 1, memory 5, interconnect 0.1' in rows[-1]


def test_plan_table_has_network_bytes_between_slices(planned, capsys):
    plan = dataclasses.replace(FITTING, network=2**20, seconds=FITTING.seconds | {'network': 0.01})
    assert planned([plan], '--num_slices', '2') == 0
    *_, network, _, time = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'network +1.00 MiB +sent by a device to other slices .*', network)
    assert 'bound by network' in time


def test_plan_reports_a_step_that_does_not_fit(planned, capsys):
    assert planned([TOO_LARGE]) == 0
    assert 'does not fit: 26.50 GiB of 15.75 GiB a device' in capsys.readouterr().out
    assert planned([TOO_LARGE], '--json') == 0
    row = json.loads(capsys.readouterr().out)
    assert row['fits'] is False
    assert row['bound'] is None
    assert row['needed'] == TOO_LARGE.needed


def test_plan_json_has_all_values(planned, capsys):
    assert planned([FITTING], '--json') == 0
    row = json.loads(capsys.readouterr().out)
    assert row['fits'] is True
    assert row['chips'] == 16
    assert row['bound'] == 'memory'
    assert row['memory'] == FITTING.memory
    assert (row['needed'], row['limit']) == (FITTING.needed, FITTING.limit)
    assert row['collectives'] == FITTING.collectives


def taking(seconds):
    return Plan(flops=1, needed=1, limit=1, seconds={'compute': seconds})


MESHES = len(list(meshes(16)))
SEARCH = ('--search', '--config.batch_size=64')


def test_plan_search_tries_remat_only_if_needed_and_recommends_the_fastest(planned, capsys):
    plans = [TOO_LARGE, TOO_LARGE, TOO_LARGE, taking(2), *[taking(4)] * 4, TOO_LARGE]
    assert planned(plans, *SEARCH) == 0
    *lines, largest, recommended = capsys.readouterr().out.splitlines()
    assert [re.split(r', |  ', line)[:3] for line in lines[:5]] == [
        ['data 16 x fsdp 1 x tensor 1', 'remat False', 'batch 64'],
        ['data 16 x fsdp 1 x tensor 1', 'remat True', 'batch 64'],
        ['data 4 x fsdp 4 x tensor 1', 'remat False', 'batch 64'],
        ['data 4 x fsdp 4 x tensor 1', 'remat True', 'batch 64'],
        ['data 1 x fsdp 16 x tensor 1', 'remat False', 'batch 64'],
    ]
    assert recommended == (
        'recommended: --config.mesh.data=4 --config.mesh.fsdp=4 --config.mesh.tensor=1 '
        '--config.model.remat=True'
    )
    assert largest == 'largest batch size that fits, of those that were tried: 64'


@pytest.mark.parametrize(
    ('others', 'tried', 'largest', 'chosen'),
    [
        # Seconds at batch sizes 128, 256 and 512: faster per example, then equal, then it does not fit.
        ([1.5, 2.99, TOO_LARGE], [128, 256, 512], 256, 128),
        # The given batch size is recommended if a larger one is not faster.
        ([2, 4, 8], [128, 256, 512], 512, 64),
        ([TOO_LARGE], [128], 64, 64),
    ],
)
def test_plan_search_tries_larger_batches(planned, capsys, others, tried, largest, chosen):
    others = [plan if isinstance(plan, Plan) else taking(plan) for plan in others]
    assert planned([taking(1)] * MESHES + others, *SEARCH, '--json') == 0
    *rows, found = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row['batch_size'] for row in rows] == [64] * MESHES + tried
    assert found['largest_batch_size'] == largest
    sizes = [flag for flag in found['recommended'] if flag.startswith('--config.batch_size')]
    assert sizes == ([f'--config.batch_size={chosen}'] if chosen != 64 else [])


def test_plan_search_tries_smaller_batches_if_nothing_fits(planned, capsys):
    assert planned([TOO_LARGE] * 2 * MESHES + [TOO_LARGE, taking(1)], *SEARCH) == 0
    assert capsys.readouterr().out.endswith('--config.batch_size=16\n')
    assert planned([TOO_LARGE] * (2 * MESHES + 3), *SEARCH) == 0
    assert 'recommended: none' in capsys.readouterr().out
    assert planned([TOO_LARGE] * (2 * MESHES + 3), *SEARCH, '--json') == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {'recommended': None, 'largest_batch_size': None}


def test_plan_search_without_a_valid_mesh_is_an_error(planned, monkeypatch, capsys):
    def refuse(*_):
        raise UserError('7 does not divide over them')

    monkeypatch.setattr('vitjax.planning.plan.plan_step', refuse)
    with pytest.raises(UserError, match='7 does not divide'):
        planned([], *SEARCH)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--topology', 'v5e:5x5'], 'v5e has no 5x5; there are 1x1, 2x2'),
        (['--topology', 'h100x3'], 'there is no h100x3; there are h100x1, h100x2, h100x4, h100x8'),
        (['--topology', 'v5litepod-17'], 'there is no v5litepod-17'),
        (['--topology', 'v5e:2x2', '--num_slices', '0'], '--num_slices'),
        (['--topology', 'v5e:2x2', '--config.mesh.fsd=2'], "'fsd'; did you mean 'fsdp'?"),
    ],
)
def test_plan_reports_a_mistake_in_one_line(words, message, recipe, capsys):
    assert main(['plan', '--config', str(recipe), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None, reason="needs pip install 'vitjax[plan-tpu]'"
)
def test_plan_with_the_compiler_for_tpus(recipe, vitjax):
    tiny = ['--config', recipe, '--json', '--config.model.drop_path=0']
    code, out, err = vitjax('plan', *tiny, '--topology', 'v5litepod-4')
    assert code == 0, err
    row = json.loads(out)
    assert row['fits']
    assert row['mesh'] == {'data': 4, 'fsdp': 1, 'tensor': 1}
    assert row['collectives']['all-reduce'] > 0
    code, _, err = vitjax('plan', *tiny, '--topology', 'v5e:2x2', '--config.mesh.fsdp=3')
    assert code == 2
    assert 'config.mesh: data=1 x fsdp=3 x tensor=1 is 3 devices, but there are 4' in err


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec('jax_cuda12_plugin') is None,
    reason="needs pip install 'vitjax[plan-gpu]'",
)
def test_plan_with_the_compiler_for_gpus(recipe, vitjax):
    tiny = ['--config', recipe, '--json', '--config.model.drop_path=0', '--config.mesh.fsdp=2']
    code, out, err = vitjax('plan', *tiny, '--topology', 'h100x4')
    assert code == 0, err
    row = json.loads(out)
    assert (row['topology'], row['mesh']) == ('h100x4', {'data': 2, 'fsdp': 2, 'tensor': 1})
    assert row['fits']
    assert row['flops'] > 0
    assert row['collectives']['all-reduce'] > 0
    assert min(row['seconds'].values()) > 0
