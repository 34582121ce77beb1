"""Against a cache as huggingface_hub lays it out; nothing here reaches a network."""

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import vitjax as library
from vitjax.errors import UserError
from vitjax.pretrained.hub import snapshot, wanted
from vitjax.pretrained.layouts.base import Parts, parameter_shapes
from vitjax.pretrained.loading import assemble

hub = pytest.importorskip('huggingface_hub', reason="needs the extra 'hub'")
constants = pytest.importorskip('huggingface_hub.constants')

COMMIT = '0123456789abcdef0123456789abcdef01234567'
VIT = dict(image_size=8, patch_size=4, width=8, depth=1, num_heads=2, num_classes=3)
PREPROCESS = dict(mean=(0.5,), std=(0.5,), crop=1.0, interpolation='bilinear')


@pytest.fixture(scope='module')
def weights():
    rng = np.random.default_rng(0)
    shapes = parameter_shapes('vit', VIT)
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return assemble(Parts('vit', VIT, params, PREPROCESS), source='', layout='')


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache's folder, and no Hub."""
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    return tmp_path / 'hub'


@pytest.fixture
def stored(cache, weights, tmp_path):
    """A repository in the cache: blobs, links to them, and what 'main' and 'v1' are."""
    library.save(weights, tmp_path / 'saved', format='google')
    repository = cache / 'models--someone--vit'
    links = repository / 'snapshots' / COMMIT
    for folder in (links, repository / 'blobs', repository / 'refs'):
        folder.mkdir(parents=True)
    for name in ('main', 'v1'):
        (repository / 'refs' / name).write_text(COMMIT)
    for index, path in enumerate((tmp_path / 'saved').iterdir()):
        path.rename(repository / 'blobs' / f'{index:064x}')
        (links / path.name).symlink_to(f'../../blobs/{index:064x}')
    return links


@pytest.mark.parametrize('revision', ['', '@main', '@v1', f'@{COMMIT}'])
def test_loads_what_the_cache_has(stored, weights, revision):
    loaded = library.load(f'hf:someone/vit{revision}')
    assert loaded.info['source'] == f'hf:someone/vit{revision}'
    np.testing.assert_array_equal(
        loaded.variables['params']['head']['kernel'], weights.variables['params']['head']['kernel']
    )


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('hf:someone/other', 'hf:someone/other is not in the cache, and the Hub cannot be asked'),
        ('hf:someone/vit@v2', 'hf:someone/vit@v2 is not in the cache'),
        ('hf:vit', 'hf:vit: say hf:owner/name'),
        ('hf:someone/../vit', 'say hf:owner/name'),
        ('hf:some one/vit', 'hf:some one/vit: Repo id must use alphanumeric'),
    ],
)
def test_what_cannot_be_had_is_one_line(stored, source, message):
    with pytest.raises(UserError, match=message) as error:
        library.load(source)
    assert '\n' not in str(error.value)


def test_where_there_is_no_hub_one_is_told_at_once(cache, monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')  # where nobody listens
    waited = []
    monkeypatch.setattr(time, 'sleep', waited.append)
    with pytest.raises(UserError, match='not in the cache, and the Hub cannot be asked'):
        library.load('hf:someone/vit')
    assert not waited


def test_links_out_of_the_cache_are_refused(stored, tmp_path):
    secret = tmp_path / 'secret.json'
    secret.write_text(json.dumps({}))
    (stored / 'config.json').unlink(missing_ok=True)
    (stored / 'config.json').symlink_to(secret)
    with pytest.raises(UserError, match=r'config\.json leads out of the cache; delete'):
        snapshot('hf:someone/vit')


def test_a_reference_out_of_the_cache_is_refused(stored, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere/model.npz').write_bytes(b'')
    (stored.parents[1] / 'refs/main').write_text('../../../elsewhere')
    with pytest.raises(UserError, match='leads out of the cache'):
        snapshot('hf:someone/vit')


def test_a_cache_without_weights(stored):
    for path in stored.iterdir():
        if path.suffix == '.npz':
            path.unlink()
    with pytest.raises(UserError, match='hf:someone/vit has no weights that could be read'):
        snapshot('hf:someone/vit')


def test_only_what_is_needed_is_downloaded(stored, monkeypatch):
    asked = {}

    def download(**options):
        asked.update(options)
        return str(stored)

    files = [
        'model.safetensors',
        'pytorch_model.bin',
        'modeling.py',
        'config.json',
        'onnx/model.npz',
    ]
    about = SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in files])
    monkeypatch.setattr(hub.HfApi, 'model_info', lambda self, **which: about)
    monkeypatch.setattr(hub, 'snapshot_download', download)
    assert snapshot('hf:someone/vit@v1') == stored
    assert asked == {
        'repo_id': 'someone/vit',
        'revision': 'v1',
        'allow_patterns': ['model.safetensors', 'config.json'],
    }


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        (['pytorch_model.bin', 'x.safetensors', 'README.md'], ['x.safetensors']),
        (['open_clip.safetensors', 'model.safetensors', 'a.npz'], ['model.safetensors']),
        (
            ['model-00001-of-00002.safetensors', 'model.safetensors.index.json', 'model.pt'],
            ['model-00001-of-00002.safetensors', 'model.safetensors.index.json'],
        ),
        (['B_16.npz', 'flax_model.msgpack', 'tf_model.h5'], ['B_16.npz']),
        (
            ['pytorch_model.bin', 'source.spm', 'target.spm', 'vocab.json', 'run.py'],
            ['pytorch_model.bin', 'source.spm', 'target.spm', 'vocab.json'],
        ),
        (
            ['config.json', 'checkpoints/20/model/d/1', 'labels.json', 'metrics.jsonl'],
            ['checkpoints/20/model/d/1', 'config.json', 'labels.json'],
        ),
    ],
)
def test_what_is_needed(files, expected):
    assert wanted(files, 'hf:someone/vit') == expected


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(UserError, match=r"pip install 'vitjax\[hub\]'"):
        library.load('hf:someone/vit')
