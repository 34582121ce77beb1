"""W&B and MLflow, offline, with the real libraries."""

import struct
import sys
import types

import pytest

from vitjax.callbacks.mlflow import MLflow
from vitjax.callbacks.wandb import WandB
from vitjax.errors import UserError
from vitjax.protocols import Event


def run(callback, workdir, steps, kinds=('log', 'eval')):
    """Calls a callback as a run does, from the first step to the last."""
    config = {'seed': 0, 'model': {'name': 'vit', 'patch_size': (2, 2)}}
    experiment = types.SimpleNamespace()
    for step in steps:
        for kind, name in (('log', 'train'), ('eval', 'test')):
            metrics = {'loss': 1 / step, 'gap': None}
            callback(Event(kind, step, name, metrics, {}, experiment, config, workdir))
    callback(Event('end', steps[-1], 'test', {}, {}, experiment, config, workdir))


@pytest.mark.slow
def test_mlflow_has_one_record_of_a_run_that_was_resumed(tmp_path, monkeypatch):
    tracking = pytest.importorskip('mlflow.tracking')
    # A database takes more of MLflow than the tests install.
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    uri = f'file://{tmp_path}/store'
    workdir = tmp_path / 'run'
    workdir.mkdir()
    for steps in ([1, 2, 3], [3, 4]):
        run(MLflow('trial', uri), workdir, steps)
    client = tracking.MlflowClient(uri)
    experiment = client.get_experiment_by_name('trial')
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == 'FINISHED'
    assert record.info.run_name == 'run'
    assert record.data.params == {'seed': '0', 'model.name': 'vit', 'model.patch_size': '(2, 2)'}
    history = client.get_metric_history(record.info.run_id, 'train/loss')
    assert {(m.step, m.value) for m in history} == {(step, 1 / step) for step in (1, 2, 3, 4)}
    assert record.data.metrics == {'train/loss': 0.25, 'test/loss': 0.25}


def wandb_records(content):
    """The records of a .wandb file: LevelDB's log format after a header of 7 bytes, in blocks of 32 KiB."""
    place, record = 7, b''
    while place < len(content):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack('<IHB', content[place : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b''


@pytest.mark.slow
def test_wandb_has_one_record_of_a_run_that_was_resumed(tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setenv('WANDB_DISABLE_CODE', 'true')
    for steps in ([1, 2, 3], [3, 4]):
        run(WandB('trial', mode='offline'), tmp_path, steps)
    ids, rows, config = set(), [], {}
    for path in sorted(tmp_path.glob('wandb/offline-run-*/*.wandb')):
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField('run'):
                ids.add(record.run.run_id)
                config |= {item.key: item.value_json for item in record.run.config.update}
            if record.HasField('history'):
                items = record.history.item
                rows.append({(i.key or '/'.join(i.nested_key)): i.value_json for i in items})
    assert len(ids) == 1
    assert config['model.name'] == '"vit"'
    losses = {(int(r['step']), float(r['train/loss'])) for r in rows if 'train/loss' in r}
    assert losses == {(step, 1 / step) for step in (1, 2, 3, 4)}
    assert {r['step'] for r in rows if 'test/loss' in r} == {'1', '2', '3', '4'}


@pytest.mark.parametrize(('kind', 'module'), [(WandB, 'wandb'), (MLflow, 'mlflow')])
def test_the_extra_is_named(kind, module, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition('.')[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'vitjax\[{module}\]'"):
        run(kind(), tmp_path, [1])
