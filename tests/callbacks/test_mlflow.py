import json
import logging

import jax
import pytest
from callback_events import CONFIG, expected_series, make_event, train

from vitjax.callbacks import MLflow
from vitjax.callbacks import mlflow as mlflow_callback
from vitjax.errors import UserError

mlflow = pytest.importorskip('mlflow', reason="MLflow is not installed: 'vitjax[mlflow]'")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Address of a store of files, which mlflow-skinny can write, too."""
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    return f'file:{tmp_path / "store"}'


def read(store, workdir):
    """The only run of the experiment, and its series as a list of (step, value) each."""
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name('vitjax')
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == json.loads((workdir / 'mlflow.json').read_text())['id']
    series = {
        name: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
    return run, series


def check(series, steps):
    expected = {name: [*values.items()] for name, values in expected_series(steps).items()}
    assert series == expected


def test_metrics_and_config_are_written(store, tmp_path):
    train(MLflow(tracking_uri=store), tmp_path / 'digits', range(1, 5))
    run, series = read(store, tmp_path / 'digits')
    check(series, range(1, 5))
    assert run.info.run_name == 'digits'
    assert run.info.status == 'FINISHED'
    assert run.data.params == {
        'model.name': 'vit',
        'model.width': '64',
        'optimizer.learning_rate': '0.001',
        'optimizer.frozen': '[]',
        'data.eval_split': 'test',
        'data.path': 'None',
    }


@pytest.mark.parametrize('end', [True, False], ids=['stopped', 'killed'])
def test_resumed_run_is_the_same_run_and_repeats_no_step(store, tmp_path, end):
    workdir = tmp_path / 'digits'
    train(MLflow(tracking_uri=store), workdir, range(1, 6), end=end)
    train(MLflow(tracking_uri=store), workdir, range(5, 9))  # from the checkpoint of step 4
    run, series = read(store, workdir)
    check(series, range(1, 9))
    assert run.info.status == 'FINISHED'


def test_evaluation_that_a_killed_run_owes_is_sent(store, tmp_path):
    workdir = tmp_path / 'digits'
    callback = MLflow(tracking_uri=store)
    train(callback, workdir, range(1, 4), end=False)
    callback(make_event(workdir, 'log', 4, 'train', {'loss': 1 / 4}))
    train(MLflow(tracking_uri=store), workdir, range(3, 6))
    check(read(store, workdir)[1], range(1, 6))


def test_run_that_was_killed_before_its_config_was_sent_gets_it(store, tmp_path, monkeypatch):
    workdir = tmp_path / 'digits'
    monkeypatch.setattr(MLflow, '_describe', lambda self, event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(MLflow(tracking_uri=store), workdir, range(1, 3))
    monkeypatch.undo()
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    train(MLflow(tracking_uri=store), workdir, range(1, 3))
    assert read(store, workdir)[0].data.params['model.width'] == '64'


def test_many_parameters_and_values_that_are_not_finite(store, tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_callback, '_MAX_METRICS', 4)
    config = CONFIG | {'extra': {f'key{i}': i for i in range(101)}}  # MLflow takes 100 at once
    callback = MLflow(tracking_uri=store)
    metrics = {'loss': float('nan'), **{f'metric{i}': float(i) for i in range(10)}}
    callback(make_event(tmp_path, 'log', 1, 'train', metrics, config))
    callback(make_event(tmp_path, 'end', 1))
    run, series = read(store, tmp_path)
    assert run.data.params['extra.key100'] == '100'
    assert series['train/metric9'] == [(1, 9.0)]
    ((step, value),) = series['train/loss']
    assert step == 1
    assert value != value


def test_other_processes_do_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    train(MLflow(tracking_uri=store), tmp_path / 'run', range(1, 3))
    assert not (tmp_path / 'run' / 'mlflow.json').exists()
    assert not (tmp_path / 'store').exists()


def test_deleted_run_is_named(store, tmp_path):
    workdir = tmp_path / 'digits'
    train(MLflow(tracking_uri=store), workdir, range(1, 3))
    run, _ = read(store, workdir)
    mlflow.MlflowClient(store).delete_run(run.info.run_id)
    with pytest.raises(UserError, match=r'mlflow.json was deleted; without that file a new run'):
        train(MLflow(tracking_uri=store), workdir, range(3, 5))


def test_store_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(UserError, match=r'MLflow: .*; see tracking_uri'):
        train(MLflow(tracking_uri='nowhere://x'), tmp_path, range(1, 3))


def test_server_that_fails_later_gets_the_metrics_once_it_answers(
    store, tmp_path, monkeypatch, caplog
):
    callback = MLflow(tracking_uri=store)
    train(callback, tmp_path / 'digits', range(1, 3), end=False)

    def fail(*args, **kwargs):
        raise mlflow.exceptions.MlflowException('no answer')

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(callback._client, 'log_batch', fail)
        train(callback, tmp_path / 'digits', range(3, 4), end=False)
        callback(make_event(tmp_path / 'digits', 'checkpoint', 3))
    assert 'did not take the metrics of step 3: no answer' in caplog.text
    train(callback, tmp_path / 'digits', range(4, 6))
    check(read(store, tmp_path / 'digits')[1], range(1, 6))


def test_run_that_is_tracked_from_its_middle_gets_what_was_before(store, tmp_path):
    train(lambda event: None, tmp_path / 'digits', range(1, 5))
    train(MLflow(tracking_uri=store), tmp_path / 'digits', range(5, 7))
    check(read(store, tmp_path / 'digits')[1], range(1, 7))


@pytest.mark.parametrize('content', ['[]', '{"id": 3, "steps": {}}', '{"id": "a"}'])
def test_damaged_file_is_named(store, tmp_path, content):
    (tmp_path / 'mlflow.json').write_text(content)
    with pytest.raises(UserError, match=r'mlflow.json is damaged'):
        train(MLflow(tracking_uri=store), tmp_path, range(1, 3))
