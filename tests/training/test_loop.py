"""Runs as a user starts, kills, damages and resumes them."""

import itertools
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import vitjax as library
from vitjax.config import read_config
from vitjax.errors import Preempted, UserError
from vitjax.training.build import build_experiment
from vitjax.training.evaluation import SplitEvaluator
from vitjax.training.loop import train

# Killed when this much of the run's folder exists: path, and how many lines or entries it has.
MOMENTS = [
    ('config.json', 1),
    ('metrics.jsonl', 1),
    ('checkpoints', 1),
    ('checkpoints/6', 1),
    ('metrics.jsonl', 2),
    ('checkpoints/12', 3),
    ('metrics.jsonl', 4),
    ('checkpoints/18', 5),
]


def arrive(process, path, count):
    """Waits for a moment of the run, or for its end."""
    while process.poll() is None:
        if path.is_dir() and len(list(path.iterdir())) >= count:
            return
        if path.is_file() and len(path.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.001)


def rows(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def same_parameters(one, other):
    one, other = library.load(one).variables, library.load(other).variables
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.fixture(scope='module')
def uninterrupted(recipe, vitjax, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('uninterrupted')
    code, out, err = vitjax('train', '--config', recipe, '--workdir', workdir)
    assert code == 0, err
    assert out.splitlines()[-1] == (
        f'next: vitjax predict --checkpoint {workdir} {workdir}/examples/{{}}.png'
    ).format(json.loads((workdir / 'labels.json').read_text())[first_test_label()])
    return workdir


def first_test_label():
    from vitjax.data.sources import open_source

    return open_source('digits', 'test')[0]['label']


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run to damage or to go on with."""
    return shutil.copytree(finished, tmp_path / 'run')


@pytest.mark.slow
def test_what_a_run_records(uninterrupted):
    assert [(row['step'], row['split']) for row in rows(uninterrupted)] == [
        *[(7, 'train'), (8, 'test'), (14, 'train'), (16, 'test'), (20, 'train'), (20, 'test')]
    ]
    train, test = rows(uninterrupted)[0], rows(uninterrupted)[1]
    assert train.keys() == {
        *('step', 'split', 'loss', 'accuracy', 'gradient_norm', 'learning_rate')
    }
    assert test['examples'] == 360
    names = {path.name for path in uninterrupted.iterdir()}
    assert names >= {'config.json', 'labels.json', 'preprocess.json', 'checkpoints', 'examples'}
    assert {path.name for path in (uninterrupted / 'checkpoints').iterdir()} == {'18', '20'}


@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_as_if_it_was_not(uninterrupted, recipe, start, tmp_path):
    killed = 0
    for path, count in MOMENTS:
        process = start('train', '--config', recipe, '--workdir', tmp_path)
        arrive(process, tmp_path / path, count)
        killed += process.poll() is None
        process.kill()
        process.communicate()
    assert killed >= len(MOMENTS) // 2
    process = start('train', '--config', recipe, '--workdir', tmp_path, reuse=False)
    _, err = process.communicate()
    assert process.returncode == 0, err
    ours, theirs = tmp_path / 'metrics.jsonl', uninterrupted / 'metrics.jsonl'
    assert ours.read_bytes() == theirs.read_bytes()
    assert same_parameters(tmp_path, uninterrupted)


@pytest.mark.slow
def test_sigterm_saves_and_exits_143(uninterrupted, recipe, start, vitjax, tmp_path):
    process = start('train', '--config', recipe, '--workdir', tmp_path)
    arrive(process, tmp_path / 'metrics.jsonl', 1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143, err
    steps = {int(path.name) for path in (tmp_path / 'checkpoints').iterdir()}
    assert max(steps) >= 7
    assert vitjax('train', '--config', recipe, '--workdir', tmp_path)[0] == 0
    ours, theirs = tmp_path / 'metrics.jsonl', uninterrupted / 'metrics.jsonl'
    assert ours.read_bytes() == theirs.read_bytes()
    assert same_parameters(tmp_path, uninterrupted)


@pytest.mark.slow
def test_ctrl_c_saves_and_exits_130(recipe, start, tmp_path):
    steps = '--config.steps=20_000', '--config.checkpoint.every=10_000'
    process = start('train', '--config', recipe, '--workdir', tmp_path, *steps)
    arrive(process, tmp_path / 'metrics.jsonl', 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    saved = re.search(r'stopped at step (\d+) and saved', err)[1]
    assert (tmp_path / 'checkpoints' / saved).is_dir()
    assert 'Traceback' not in err


def test_a_refused_config_leaves_no_folder(recipe, tmp_path):
    config = read_config(str(recipe), {'augment.crop': '(1.0, 0.5)'})
    with pytest.raises(UserError, match=r'augment\.crop'):
        train(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_file_where_the_folder_should_be(recipe, tmp_path, command):
    (tmp_path / 'file').touch()
    code, _, err = command('train', '--config', recipe, '--workdir', tmp_path / 'file' / 'run')
    assert (code, len(err.splitlines())) == (2, 1)
    assert f'{tmp_path}/file is a file' in err


@pytest.mark.slow
def test_damaged_metrics_are_passed_over(recipe, tmp_path, command):
    run = 'train', '--config', recipe, '--workdir', tmp_path, '--config.checkpoint.best=accuracy'
    assert command(*run)[0] == 0
    (tmp_path / 'checkpoints/20/metrics/metrics').write_text('')
    code, _, err = command(*run)
    assert code == 0, err
    assert '20/metrics/metrics cannot be read' in err
    assert re.search(r'going on at step 1\d', err)
    assert (tmp_path / 'checkpoints.corrupt-20').is_dir()
    # Those that were saved before it was asked for have no such metric, and are the worst.
    code, _, err = command(*run[:-1], '--config.checkpoint.best=-loss', '--config.steps=24')
    assert code == 0, err


@pytest.mark.slow
def test_statistics_of_batch_norm_are_resumed_and_loaded(recipe, tmp_path):
    config = read_config(f'{recipe}:cnn')
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    metrics = train(config, whole).metrics
    with pytest.raises(Preempted):
        train(config, stopped, should_stop=lambda step: step == 9)
    train(config, stopped)
    assert (stopped / 'metrics.jsonl').read_bytes() == (whole / 'metrics.jsonl').read_bytes()
    assert same_parameters(stopped, whole)
    loaded = library.load(whole).variables
    assert set(loaded) == {'params', 'batch_stats'}
    assert SplitEvaluator(build_experiment(config))(loaded) == metrics


@pytest.mark.slow
@pytest.mark.parametrize('item', ['model', 'training'])
def test_a_damaged_checkpoint_is_passed_over(copy, finished, recipe, command, item):
    for path in (copy / 'checkpoints/20' / item).rglob('*'):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = command('train', '--config', recipe, '--workdir', copy)
    assert code == 0, err
    assert '20 cannot be read' in err
    assert 'going on at step 18' in err
    assert (copy / 'metrics.jsonl').read_bytes() == (finished / 'metrics.jsonl').read_bytes()
    assert same_parameters(copy, finished)
    assert (copy / 'checkpoints.corrupt-20').is_dir()


@pytest.mark.slow
def test_going_on_with_another_config(copy, recipe, command):
    run = 'train', '--config', recipe, '--workdir', copy
    code, _, err = command(*run, '--config.steps=24', '--config.optimizer.learning_rate=0.002')
    assert code == 0, err
    assert 'config.optimizer.learning_rate: 0.001 -> 0.002' in err
    assert 'config.steps: 20 -> 24' in err
    assert rows(copy)[-1]['step'] == 24

    stored = (copy / 'config.json').read_bytes()
    code, _, err = command(*run, '--config.model.width=32')
    assert code == 2
    assert 'out/bias is (2, 16) in the checkpoint, (2, 32) in the model' in err.splitlines()[-1]
    assert (copy / 'config.json').read_bytes() == stored


@pytest.mark.slow
def test_going_on_with_another_version(copy, recipe, vitjax):
    path = copy / 'checkpoints/20/meta/metadata'
    meta = json.loads(path.read_text())
    meta['versions']['jax'] = '0.9.1'
    path.write_text(json.dumps(meta))
    code, _, err = vitjax('train', '--config', recipe, '--workdir', copy)
    assert code == 0
    assert 'saved with jax 0.9.1, going on with' in err


def test_a_finished_run_says_its_result_again_and_how_it_was_made(copy, recipe, command):
    kept = [copy / name for name in ('metrics.jsonl', 'config.json')]
    before = [path.read_bytes() for path in kept]
    for change in ([], ['--config.optimizer.learning_rate=0.007']):
        code, out, err = command('train', '--config', recipe, '--workdir', copy, *change)
        assert code == 0
        assert re.search(r'test accuracy 0\.\d{4}', out)
        assert 'finished at step 20' in err
        assert ('changed since this run was started: config.optimizer' in err) == bool(change)
        assert [path.read_bytes() for path in kept] == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ('policy', 'code'),
    [('stop', 1), ('skip', 0)],
)
def test_a_loss_that_is_not_finite(recipe, command, tmp_path, policy, code):
    # A step at this rate makes parameters whose logits overflow.
    overrides = [
        *('--config.optimizer.learning_rate=1e30', f'--config.optimizer.nonfinite={policy}'),
        *('--config.checkpoint.every=1', '--config.optimizer.name=sgd'),
    ]
    found, _, err = command('train', '--config', recipe, '--workdir', tmp_path, *overrides)
    assert found == code, err
    if policy == 'stop':
        assert re.search(r'not finite at step \d+; last good checkpoint: .*checkpoints/\d+', err)
    else:
        assert rows(tmp_path)[-2]['skipped_updates'] > 0
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(library.load(tmp_path).variables))


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(copy, recipe, environment):
    run = 'train', '--config', recipe, '--workdir', copy, '--config.steps=40'
    process = subprocess.run(
        # No file may be longer than 20 KiB.
        ['sh', '-c', 'ulimit -f 40; exec "$@"', 'sh', sys.executable, '-m', 'vitjax', *run],
        env=environment() | {'JAX_ENABLE_COMPILATION_CACHE': 'false'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert 'cannot write' in process.stderr.splitlines()[-1]
    assert 'Traceback' not in process.stderr
    assert (copy / 'checkpoints/20').is_dir()
    assert library.load(copy).info['step'] == 20


def test_no_readable_checkpoint_loses_nothing(copy, recipe, command):
    for path in (copy / 'checkpoints').rglob('*'):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(b'')
    before = (copy / 'metrics.jsonl').read_bytes()
    code, _, err = command('train', '--config', recipe, '--workdir', copy)
    assert code == 1
    assert 'no older one is left' in err.splitlines()[-1]
    assert (copy / 'metrics.jsonl').read_bytes() == before
    assert {path.name for path in (copy / 'checkpoints').iterdir()} == {'18', '20'}


def write_images(folder):
    """24 gray images a split, of two classes; their paths, those of 'train' first."""
    from PIL import Image

    paths = []
    for split, index in itertools.product(('train', 'test'), range(24)):
        paths.append(folder / split / str(index % 2) / f'{index}.png')
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (9, 12), index * 10).save(paths[-1])
    return paths


@pytest.mark.slow
def test_corrupt_images_stop_a_run_or_are_counted(recipe, command, tmp_path):
    paths = write_images(tmp_path / 'data')
    for path in paths[::8]:
        path.write_bytes(path.read_bytes()[:40])
    run = [
        *('train', '--config', recipe, '--workdir', tmp_path / 'run', '--config.data.name=folder'),
        *(f'--config.data.path={tmp_path / "data"}', '--config.model.num_classes=2'),
        *('--config.steps=3', '--config.log.every=3'),
    ]
    code, _, err = command(*run)
    assert code == 2
    assert re.search(r'data/t\w+/0/\d+\.png: .*skip_corrupt', err.splitlines()[-1])
    code, out, err = command(*run, '--config.data.skip_corrupt=True')
    assert code == 0, err
    assert 'examples 21  skipped_examples 3' in out
    train, test = rows(tmp_path / 'run')
    assert train['skipped_examples'] == 6  # 48 examples are two epochs of 24, with three each
    assert (test['examples'], test['skipped_examples']) == (21, 3)


@pytest.mark.slow
def test_an_image_that_cannot_be_read_costs_no_training(recipe, command, tmp_path):
    paths = write_images(tmp_path / 'data')

    def run(name):
        return [
            *('train', '--config', recipe, '--workdir', tmp_path / name),
            *('--config.data.name=folder', f'--config.data.path={tmp_path / "data"}'),
            *('--config.model.num_classes=2', '--config.steps=5', '--config.eval.every=None'),
            *('--config.log.every=2', '--config.checkpoint.every=None'),
        ]

    assert command(*run('whole'))[0] == 0
    for split, damaged in (('train', paths[0]), ('test', paths[-1])):
        content = damaged.read_bytes()
        damaged.write_bytes(content[:40])
        code, _, err = command(*run(split))
        assert code == 2
        assert str(damaged) in err.splitlines()[-1]
        assert split == 'train' or 'stopped at step 5 and saved' in err
        damaged.write_bytes(content)
        code, _, err = command(*run(split))
        assert code == 0, err
        assert (split == 'test') == ('finished at step 5' in err)
        records = [(tmp_path / name / 'metrics.jsonl').read_bytes() for name in ('whole', split)]
        assert records[0] == records[1]
        assert same_parameters(tmp_path / 'whole', tmp_path / split)


@pytest.mark.slow
def test_keeps_the_newest_and_the_best(recipe, command, tmp_path):
    overrides = ['--config.checkpoint.best=-loss', '--config.checkpoint.keep=1']
    code, _, err = command('train', '--config', recipe, '--workdir', tmp_path, *overrides)
    assert code == 0, err
    tests = [row for row in rows(tmp_path) if row['split'] == 'test']
    best = min(tests, key=lambda row: row['loss'])['step']
    assert {int(path.name) for path in (tmp_path / 'checkpoints').iterdir()} == {best, 20}
    # What comes after a resume is worse, so that the best stays although it was saved before.
    longer = ['--config.steps=28', '--config.optimizer.learning_rate=3', *overrides]
    code, _, err = command('train', '--config', recipe, '--workdir', tmp_path, *longer)
    assert code == 0, err
    assert min(row['loss'] for row in rows(tmp_path)[-2:]) > min(row['loss'] for row in tests)
    assert {int(path.name) for path in (tmp_path / 'checkpoints').iterdir()} == {best, 28}


@pytest.mark.slow
def test_two_processes_train_stop_and_resume_together(
    uninterrupted, recipe, start, vitjax, tmp_path
):
    def together(*args, at=None):
        with socket.socket() as free:
            free.bind(('localhost', 0))
            address = f'localhost:{free.getsockname()[1]}'
        processes = [
            start(
                *('train', '--config', recipe, '--workdir', tmp_path, '--distributed'),
                *('--coordinator', address, '--num_processes', 2, '--process_id', index, *args),
                devices=2,
            )
            for index in range(2)
        ]
        if at:
            arrive(processes[0], tmp_path / 'metrics.jsonl', at)
            processes[1].send_signal(signal.SIGTERM)  # one host's notice is enough for all
        ends = [process.communicate(timeout=300) for process in processes]
        return [process.returncode for process in processes], ends[0][1] + ends[1][1]

    long = '--config.steps=200'
    codes, err = together(long, at=1)
    assert codes == [143, 143], err
    saved = max(int(path.name) for path in (tmp_path / 'checkpoints').iterdir())
    assert 7 <= saved < 200
    steps = f'--config.steps={saved + 5}'
    alone = shutil.copytree(tmp_path, tmp_path / 'alone', ignore=shutil.ignore_patterns('alone'))
    codes, err = together(steps)
    assert codes == [0, 0], err
    assert f'going on at step {saved}' in err
    steps_logged = [row['step'] for row in rows(tmp_path) if row['split'] == 'train']
    assert steps_logged == sorted(set(steps_logged))
    code, _, err = vitjax('train', '--config', recipe, '--workdir', alone, steps)
    assert code == 0, err
    assert f'going on at step {saved}' in err  # on one host, from what two have saved
    np.testing.assert_allclose(rows(alone)[-1]['loss'], rows(tmp_path)[-1]['loss'], rtol=1e-4)
    first = next(row for row in rows(uninterrupted) if row['step'] == 7)
    np.testing.assert_allclose(rows(tmp_path)[0]['loss'], first['loss'], rtol=1e-4)
