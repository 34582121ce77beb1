"""Runs and data in a bucket equal those in a local folder. The bucket is served by a fake local server."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from buckets import Buckets
from PIL import Image

import vitjax as library
from vitjax import files
from vitjax.config import read_config
from vitjax.data.pipeline import train_batches
from vitjax.data.preprocess import Preprocess
from vitjax.data.sources import SOURCES, open_source
from vitjax.data.transforms import Preprocessed
from vitjax.errors import Preempted, RunError, UserError
from vitjax.files import files_below, subfolders, to_path, write_atomically
from vitjax.training.loop import train

BUCKET = 'gs://here'


@pytest.fixture(scope='module')
def server():
    """A server with the bucket 'here', which this process and its children take for Cloud Storage."""
    pytest.importorskip('gcsfs', reason='it reads buckets; pip install gcsfs')
    server = Buckets('here')
    with pytest.MonkeyPatch.context() as patch:
        for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
            patch.setenv(name, server.address)
        patch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'token')  # TensorStore looks for one
        patch.setenv('NO_GCE_CHECK', 'true')  # no machine of Google's has one
        patch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')  # which would speak gRPC
        yield server
    server.close()


def upload(server, folder, path):
    """Copies a folder's files to a path in the bucket, which is returned as the user types it."""
    for file in folder.rglob('*'):
        if file.is_file():
            server.put('here', f'{path}/{file.relative_to(folder)}', file.read_bytes())
    return f'{BUCKET}/{path}'


def objects(server, path):
    """Name of each object below a path -> its content."""
    return {
        name.removeprefix(f'{path}/'): content
        for (_, name), (content, _) in sorted(dict(server.objects).items())
        if name.startswith(f'{path}/')
    }


def steps(server, path):
    """Those of the checkpoints below a path, whole or not."""
    return {int(name.split('/')[1]) for name in objects(server, path) if 'checkpoints/' in name}


def same_parameters(one, other):
    one, other = library.load(one).variables, library.load(other).variables
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.fixture(scope='module')
def run(server, recipe):
    """A run in the bucket that was stopped once and went on to its end."""
    config = read_config(str(recipe))
    with pytest.raises(Preempted):
        train(config, f'{BUCKET}/run', should_stop=lambda step: step == 9)
    assert steps(server, 'run') == {6, 9}
    train(config, f'{BUCKET}/run')
    return f'{BUCKET}/run'


@pytest.fixture
def copy(server, run, request):
    """Path in the bucket of a copy of the run, to damage or to go on with."""
    path = request.node.name
    for name, content in objects(server, 'run').items():
        server.put('here', f'{path}/{name}', content)
    return path


@pytest.fixture
def images(tmp_path):
    """A folder of pictures in two classes, some of them deeper, and files that count for nothing."""
    for index, name in enumerate(
        ('train/a/1.png', 'train/a/deep/2.png', 'train/b/3.PNG', 'val/b/4.png')
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (9, 12), index * 50).save(path)
    for name in ('train/.hidden/x.png', 'train/a/.x.png', 'train/note.txt', 'train/a/note.txt'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('')
    return tmp_path


@pytest.mark.slow
def test_train_resumed_in_bucket_equals_uninterrupted_local_run(server, run, finished):
    ours = objects(server, 'run')
    assert ours['metrics.jsonl'] == (finished / 'metrics.jsonl').read_bytes()
    names = {path.relative_to(finished).parts[0] for path in finished.iterdir()}
    events = {name for name in ours if name.startswith('events.')}
    assert len(events) == 2
    assert {name.split('/')[0] for name in ours} - events == {
        name for name in names if not name.startswith('events.')
    }
    for name in ('config.json', 'labels.json', 'preprocess.json'):
        assert ours[name] == (finished / name).read_bytes()
    assert {name for name in ours if name.startswith('examples/')} == {
        f'examples/{path.name}' for path in (finished / 'examples').iterdir()
    }
    assert steps(server, 'run') == {18, 20}
    assert same_parameters(run, finished)


@pytest.mark.slow
def test_eval_predict_convert_train_read_run_in_bucket(run, finished, recipe, command, tmp_path):
    code, ours, err = command('eval', '--workdir', run)
    assert code == 0, err
    assert ours == command('eval', '--workdir', finished)[1]

    example = next((finished / 'examples').iterdir()).name
    scores = [
        command('predict', '--checkpoint', where, f'{where}/examples/{example}')[1].split()[1:]
        for where in (run, finished)
    ]
    assert scores[0] == scores[1] != []

    for form, name in (('vitjax', 'folder'), ('google', 'weights.npz')):
        assert command('convert', run, tmp_path / name, '--format', form)[0] == 0
        assert same_parameters(tmp_path / name, finished)

    tuned = '--config.model.pretrained', run, '--config.steps=1'
    code, _, err = command('train', '--config', recipe, '--workdir', tmp_path / 'tuned', *tuned)
    assert code == 0, err


def test_load_and_train_ignore_unfinished_checkpoint(server, copy, finished, recipe):
    del server.objects['here', f'{copy}/checkpoints/20/commit_success.txt']
    assert library.load(f'{BUCKET}/{copy}').info['step'] == 18
    train(read_config(str(recipe)), f'{BUCKET}/{copy}')
    assert same_parameters(f'{BUCKET}/{copy}', finished)
    assert objects(server, copy)['metrics.jsonl'] == (finished / 'metrics.jsonl').read_bytes()


@pytest.mark.slow
def test_train_resumes_from_last_undamaged_checkpoint(server, copy, finished, recipe, command):
    for name, content in objects(server, f'{copy}/checkpoints/20/training').items():
        if len(content) > 1000:
            server.put('here', f'{copy}/checkpoints/20/training/{name}', content[:500])
    code, _, err = command('train', '--config', recipe, '--workdir', f'{BUCKET}/{copy}')
    assert code == 0, err
    assert '20 cannot be read' in err
    assert 'going on at step 18' in err
    assert same_parameters(f'{BUCKET}/{copy}', finished)
    assert steps(server, copy) == {18, 20}
    assert objects(server, f'{copy}/checkpoints.corrupt-20')


@pytest.mark.slow
def test_train_resumes_run_copied_to_or_from_bucket(
    server, run, finished, recipe, command, tmp_path
):
    for name, content in objects(server, 'run').items():
        write_atomically(tmp_path / 'run' / name, content)
    there = upload(server, finished, 'copied')
    for workdir in (tmp_path / 'run', there):
        longer = '--workdir', workdir, '--config.steps=24'
        code, _, err = command('train', '--config', recipe, *longer)
        assert code == 0, err
        assert 'going on at step 20' in err
    assert same_parameters(tmp_path / 'run', there)


def test_load_reads_saved_model_in_bucket(server, finished, tmp_path):
    library.save(library.load(finished), tmp_path / 'saved')
    assert same_parameters(upload(server, tmp_path / 'saved', 'saved'), finished)


@pytest.mark.slow
def test_train_resumes_killed_run_in_bucket(server, recipe, finished, start, vitjax):
    run = 'train', '--config', recipe, '--workdir', f'{BUCKET}/killed'
    process = start(*run)
    while process.poll() is None and 12 not in steps(server, 'killed'):
        time.sleep(0.001)
    assert process.poll() is None
    process.kill()
    process.communicate()
    code, _, err = vitjax(*run)
    assert code == 0, err
    assert 'going on at step' in err
    rows = (finished / 'metrics.jsonl').read_bytes().splitlines()
    assert len(objects(server, 'killed')['metrics.jsonl'].splitlines()) == len(rows)
    assert steps(server, 'killed') == {18, 20}


def test_records_are_uploaded_between_checkpoints(server, monkeypatch):
    from vitjax.training import records

    rows = records.Records(f'{BUCKET}/rows', tensorboard=False)
    rows.write(1, 'train', {'loss': 1.0})
    assert not objects(server, 'rows')
    monkeypatch.setattr(records, '_PUT_EVERY', 0)
    rows.write(2, 'train', {'loss': 1.0})
    assert [row['step'] for row in records.read_records(f'{BUCKET}/rows/metrics.jsonl')] == [1, 2]


def test_open_source_folder_in_bucket_equals_local(server, images):
    place = upload(server, images, 'images')
    for split in ('train', 'val', 'test', 'train[50%:]'):
        here, there = (open_source('folder', split, path) for path in (str(images), place))
        assert here.labels == there.labels == ('a', 'b')
        assert len(here) == len(there) > 0
        for index in range(len(here)):
            assert here.describe(index) == there.describe(index).replace(place, str(images))
            assert here[index]['label'] == there[index]['label']
            np.testing.assert_array_equal(here[index]['image'], there[index]['image'])


def test_train_batches_from_bucket_equal_local(server, images):
    transform = Preprocessed(Preprocess((8, 8), 1, crop=1.0, mean=(0.5,), std=(0.5,)))
    first = [
        next(
            iter(train_batches(open_source('folder', path=path), transform, batch_size=32, seed=0))
        )
        for path in (str(images), upload(server, images, 'batches'))
    ]
    np.testing.assert_array_equal(first[0]['image'], first[1]['image'])


@pytest.fixture
def prepared(server, tmp_path, monkeypatch):
    """A data set of TFDS: its folder here, its place in the bucket, and where copies are kept."""
    open_source('tfds:vitjax_digits', path=str(tmp_path / 'here'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    kept = tmp_path / 'cache/vitjax/buckets/here/tfds/vitjax_digits/1.0.0'
    return tmp_path / 'here', upload(server, tmp_path / 'here', 'tfds'), kept


def test_open_source_copies_tfds_once_and_only_its_split(server, prepared):
    here, place, kept = prepared
    for name in ('', 'deeper/', 'deeper/file'):  # folders are objects too, if a console made them
        server.put('here', f'tfds/vitjax_digits/1.0.0/{name}', b'')
    ours, theirs = (open_source('tfds:vitjax_digits', 'test', str(path)) for path in (here, place))
    assert ours.labels == theirs.labels
    for index in range(len(ours)):
        assert ours[index]['label'] == theirs[index]['label']
        np.testing.assert_array_equal(ours[index]['image'], theirs[index]['image'])
    assert not list(kept.glob('*-train.*')), 'another split than the one that was asked for'
    before = {path.name: path.stat().st_ino for path in kept.iterdir()}
    open_source('tfds:vitjax_digits', 'test', place)
    assert {path.name: path.stat().st_ino for path in kept.iterdir()} == before


@pytest.mark.parametrize('damage', [lambda file: file.write_bytes(b''), Path.unlink, os.utime])
def test_open_source_copies_damaged_tfds_file_again(server, prepared, damage):
    _, place, kept = prepared
    open_source('tfds:vitjax_digits', 'test', place)
    file = next(kept.glob('*-test.*'))
    content = file.read_bytes()
    damage(file)
    assert len(open_source('tfds:vitjax_digits', 'test', place)) == 360
    assert file.read_bytes() == content


def test_open_source_raises_run_error_for_missing_tfds_file_or_bad_cache(server, prepared):
    _, place, kept = prepared
    name = next(name for name in objects(server, 'tfds') if '-test.' in name)
    content, _ = server.objects.pop(('here', f'tfds/{name}'))
    with pytest.raises(RunError, match=rf'^{place}/{name}: no such file$'):
        open_source('tfds:vitjax_digits', 'test', place)
    server.put('here', f'tfds/{name}', content)
    shutil.rmtree(kept)
    kept.write_text('no folder')
    with pytest.raises(RunError, match=rf'^cannot copy {place}/.* here: File exists$'):
        open_source('tfds:vitjax_digits', 'test', place)


def test_open_source_parallel_reads_bucket(server, tmp_path):
    (tmp_path / 'train.ko').write_text('하나\n둘\n')
    (tmp_path / 'train.en').write_text('one\ntwo\n')
    place = upload(server, tmp_path, 'sentences')
    assert open_source('parallel', 'train', place, ('ko', 'en'))[1]['target'] == 'two'


def test_subfolders_and_files_below_in_bucket_equal_local(server, images):
    place = to_path(upload(server, images, 'listed'))
    for name in ('', 'train', 'train/a', 'train/none'):
        here, there = images / name, place / name
        assert subfolders(here) == subfolders(there)
        assert files_below(here) == [
            file.replace(str(place), str(images)) for file in files_below(there)
        ]


def test_write_atomically_writes_object(server):
    path = to_path(f'{BUCKET}/deep/er/file')
    for content in (b'one', 'zwei', b'3' * 10_000_000):
        write_atomically(path, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())


@pytest.mark.slow
def test_translate_reads_checkpoint_in_bucket(server, translator, numbers, command):
    place = upload(server, translator, 'translator')
    korean, english = numbers[9]
    assert command('translate', '--checkpoint', place, korean) == (0, f'{english}\n', '')


@pytest.mark.parametrize(
    ('form', 'file'), [('google', ''), ('google', 'model.npz'), ('timm', 'model.safetensors')]
)
def test_load_reads_foreign_weights_and_metadata_in_bucket(server, finished, tmp_path, form, file):
    library.save(library.load(finished), tmp_path / form, format=form)
    place = f'{upload(server, tmp_path / form, form)}/{file}'.rstrip('/')
    here, there = library.load(tmp_path / form / file), library.load(place)
    assert there.info['source'] == place
    assert (here.model, here.preprocess, here.labels) == (
        there.model,
        there.preprocess,
        there.labels,
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, here.variables, there.variables))


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('damaged/model.safetensors', b'123', 'gs://here/damaged/model.safetensors is damaged'),
        (
            'nothing/notes.txt',
            b'',
            'gs://here/nothing has no weights that could be read, but notes',
        ),
    ],
)
def test_load_error_names_path_in_bucket(server, name, content, message):
    server.put('here', name, content)
    with pytest.raises(UserError) as error:
        library.load(f'{BUCKET}/{name.partition("/")[0]}')
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: library.load('gs://nowhere/run'), 'gs://nowhere: no such bucket'),
        (lambda: library.load(f'{BUCKET}/none'), 'gs://here/none: no such file or folder'),
        (lambda: library.save(None, f'{BUCKET}/x', 'vitjax'), 'gs://here/x: choose a folder here'),
        (lambda: SOURCES['folder'](f'{BUCKET}/none'), "no folder 'gs://here/none'"),
        (
            lambda: open_source('tfds:vitjax_digits', 'train', f'{BUCKET}/none'),
            'is not prepared in gs://here/none; prepare it here and copy its folder there (gcloud',
        ),
    ],
)
def test_bad_paths_raise_one_line_user_error(server, call, message):
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value).startswith(message) or message in str(error.value)
    assert '\n' not in str(error.value)


def test_to_path_raises_one_line_error_for_forbidden_or_silent_bucket(server, monkeypatch):
    monkeypatch.setattr(server, 'refused', {'secret', 'readable'})
    server.names.update(server.refused)
    with pytest.raises(UserError, match=r'gs://secret: .*403.*; gcloud auth'):
        to_path('gs://secret/run')
    monkeypatch.setattr(files, '_PATIENCE', 0.2)
    monkeypatch.setenv('STORAGE_EMULATOR_HOST', 'http://localhost:9')
    with pytest.raises(UserError, match=r'no answer in 0\.2 seconds'):
        to_path('gs://silent/run')


def test_write_atomically_raises_one_line_error_for_forbidden_bucket(server, monkeypatch):
    path = to_path(f'{BUCKET}/refused')
    monkeypatch.setattr(server, 'refused', {'here'})
    with pytest.raises(RunError, match=r'^cannot write gs://here/refused: .*403'):
        write_atomically(path, b'')


def test_to_path_without_gcsfs_names_extra_to_install():
    program = """
import sys
sys.modules['gcsfs'] = None
from vitjax.files import to_path
try:
    to_path('gs://here/run')
except ValueError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert found.stdout == ("gs://here: install what reads buckets: pip install 'vitjax[gcs]'\n"), (
        found.stderr
    )


def test_to_path_returns_pathlib_path_for_local_path(tmp_path):
    for path in (str(tmp_path), f'{tmp_path}/a://b'):
        assert type(to_path(path)) is type(Path(path))


@pytest.mark.parametrize('path', ['s3://bucket/run', 'gs://', 'gs:///run'])
def test_to_path_refuses_other_schemes_and_empty_bucket(path):
    with pytest.raises(UserError, match=rf'^{path}: a path is of a file or folder here, or gs://'):
        to_path(path)


def test_to_path_refuses_empty_path():
    with pytest.raises(UserError, match='a path is empty'):
        to_path('')
