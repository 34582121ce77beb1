import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from callback_events import CONFIG, expected_series, make_event, train

from vitjax.callbacks import WandB
from vitjax.errors import UserError

wandb = pytest.importorskip('wandb', reason="W&B is not installed: 'vitjax[wandb]'")

_BLOCK = 2**15  # bytes of a block of a .wandb file


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No account, no settings and no output of the machine."""
    for name in ('WANDB_API_KEY', 'WANDB_MODE', 'WANDB_RUN_ID', 'WANDB_DIR'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setenv('WANDB_CONSOLE', 'off')


def payloads(path):
    """The records of a .wandb file: LevelDB's log format, after a header of 7 bytes."""
    content = path.read_bytes()
    place, parts = 7, b''
    while place + 7 <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < 7:  # the end of a block, too short for a header
            place += left
            continue
        _, length, kind = struct.unpack('<IHB', content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b''


def wait_for_records(path):
    """The records of a .wandb file, once its run has ended: another process writes them."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline = time.monotonic() + 30
    while True:
        records = [Record.FromString(payload) for payload in payloads(path)]
        if any(record.WhichOneof('record_type') == 'exit' for record in records):
            return records
        assert time.monotonic() < deadline, f'{path} has no end'
        time.sleep(0.1)


def read(workdir, leave_out=()):
    """The parts of a run, oldest first: id, project, name, config and series of each."""
    parts = []
    paths = set((workdir / 'wandb').glob('offline-run-*/*.wandb')) - set(leave_out)
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        part = {'series': {}, 'axes': {}}
        for record in wait_for_records(path):
            match record.WhichOneof('record_type'):
                case 'run':
                    run = record.run
                    part |= {'id': run.run_id, 'project': run.project, 'name': run.display_name}
                    config = {item.key: json.loads(item.value_json) for item in run.config.update}
                    part['config'] = {k: v for k, v in config.items() if k != '_wandb'}
                case 'metric':
                    metric = record.metric
                    part['axes'][metric.glob_name or metric.name] = metric.step_metric
                case 'history':
                    row = {
                        item.key or '/'.join(item.nested_key): json.loads(item.value_json)
                        for item in record.history.item
                    }
                    for name, value in row.items():
                        if '/' in name:
                            part['series'].setdefault(name, []).append((row['step'], value))
        parts.append(part)
    return parts


def series(parts):
    """The series of all parts, one after another."""
    joined = {}
    for part in parts:
        for name, values in part['series'].items():
            joined.setdefault(name, []).extend(values)
    return joined


def check(found, steps):
    assert found == {name: [*values.items()] for name, values in expected_series(steps).items()}


def test_metrics_and_config_are_written(tmp_path):
    workdir = tmp_path / 'digits'
    train(WandB(project='tests', mode='offline'), workdir, range(1, 5))
    (part,) = read(workdir)
    check(part['series'], range(1, 5))
    assert part['axes']['*'] == 'step'
    assert part['project'] == 'tests'
    assert part['name'] == 'digits'
    assert part['config'] == CONFIG
    assert part['id'] == json.loads((workdir / 'wandb.json').read_text())['id']


def test_resumed_run_is_the_same_run_and_repeats_no_step(tmp_path):
    workdir = tmp_path / 'digits'
    train(WandB(mode='offline'), workdir, range(1, 6))
    time.sleep(1)  # the name of a part's folder has whole seconds
    train(WandB(mode='offline'), workdir, range(5, 9))  # from the checkpoint of step 4
    first, second = read(workdir)
    assert first['id'] == second['id']
    assert first['series'].keys() == second['series'].keys()
    check(series([first, second]), range(1, 9))


def test_run_that_was_killed_is_sent_what_may_be_lost(tmp_path, environment):
    """W&B writes its file every 15 seconds, and not when its process is killed."""
    workdir = tmp_path / 'digits'
    code = f"""
import os, signal
from pathlib import Path
from callback_events import train
from vitjax.callbacks import WandB
train(WandB(mode='offline'), Path({str(workdir)!r}), range(1, 6), end=False)
os.kill(os.getpid(), signal.SIGKILL)
"""
    variables = environment()
    variables.pop('WANDB_SERVICE', None)  # the process of this one that writes
    variables['PYTHONPATH'] += f':{Path(__file__).parent}'
    process = subprocess.run([sys.executable, '-c', code], env=variables, capture_output=True)
    assert process.returncode == -9, process.stderr.decode()
    stored = json.loads((workdir / 'wandb.json').read_text())
    assert stored['steps'] == {}
    killed = set((workdir / 'wandb').glob('offline-run-*/*.wandb'))
    time.sleep(1)  # the name of a part's folder has whole seconds
    train(WandB(mode='offline'), workdir, range(5, 9))  # from the checkpoint of step 4
    (resumed,) = read(workdir, leave_out=killed)
    assert resumed['id'] == stored['id']
    check(resumed['series'], range(1, 9))


def test_steps_that_are_stored_for_certain_are_not_sent_again(tmp_path, monkeypatch):
    monkeypatch.setattr(WandB, 'LAG', 0.0)
    workdir = tmp_path / 'digits'
    train(WandB(mode='offline'), workdir, range(1, 6), end=False)
    wandb.finish()
    assert json.loads((workdir / 'wandb.json').read_text())['steps'] == {
        'train': 5,
        'test': 4,
        'knn': 4,
    }
    time.sleep(1)
    train(WandB(mode='offline'), workdir, range(5, 9))
    check(series(read(workdir)), range(1, 9))


def test_values_that_are_not_finite(tmp_path):
    callback = WandB(mode='offline')
    metrics = {'loss': float('nan'), 'left_out': None, 'gradient_norm': float('inf')}
    callback(make_event(tmp_path, 'log', 1, 'train', metrics))
    callback(make_event(tmp_path, 'end', 1))
    (part,) = read(tmp_path)
    assert part['series'].keys() == {'train/loss', 'train/gradient_norm'}
    ((_, loss),) = part['series']['train/loss']
    assert loss != loss


def test_other_processes_do_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    train(WandB(mode='offline'), tmp_path / 'run', range(1, 3))
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['metrics.jsonl']


def test_disabled_run_writes_nothing(tmp_path):
    train(WandB(mode='disabled'), tmp_path / 'run', range(1, 3))
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['metrics.jsonl']


def test_missing_account_is_named(tmp_path):
    with pytest.raises(UserError, match=r"W&B: .*mode='offline' needs no connection"):
        train(WandB(mode='online'), tmp_path / 'run', range(1, 3))
    assert not (tmp_path / 'run' / 'wandb.json').exists()
