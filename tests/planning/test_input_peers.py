"""The input pipelines that `vitjax bench` compares with read the same images."""

import itertools
import sys

import numpy as np
import pytest
from PIL import Image

from vitjax.config import arguments, base_config
from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError
from vitjax.planning.input_peers import INPUT_PEERS, batches_of_peer

PREPROCESS = Preprocess((12, 10), 3, 1.0, (0.5,) * 3, (0.5,) * 3, 'bilinear')


@pytest.fixture
def config(tmp_path):
    """The config of a folder with a dark and a light JPEG."""
    for name, level in (('dark', 50), ('light', 200)):
        path = tmp_path / name / 'image.jpg'
        path.parent.mkdir()
        Image.fromarray(np.full((30, 40, 3), level, np.uint8)).save(path)
    config = base_config()
    config.data.update(name='folder', path=str(tmp_path))
    defaults = {key: default for key, (_, default) in arguments('augment', 'standard').items()}
    config.augment.update(defaults | {'name': 'standard'})
    config.augment.update(crop=(0.1, 1.0), flip=True)
    config.batch_size = 3
    return config


@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('peer', INPUT_PEERS)
def test_batches_of_peer_hold_the_images(peer, fast, config):
    pytest.importorskip(peer, reason=f'compares with {peer}')
    config.augment.fast = fast
    levels = set()
    for batch in itertools.islice(batches_of_peer(peer, PREPROCESS, config), 8):
        images = np.asarray(batch['image'])
        assert images.dtype == np.uint8
        assert sorted(images.shape) == [3, 3, 10, 12]  # PyTorch has channels second
        levels |= set(images[:, 1, 1, 1].tolist())
    assert levels == {50, 200}


@pytest.mark.parametrize(
    ('part', 'changes', 'message'),
    [
        ('data', {'name': 'digits'}, 'only a folder of JPEGs'),
        ('augment', {'crop': None}, 'only random crops and flips'),
        ('augment', {'flip': False}, 'only random crops and flips'),
        ('augment', {'rotate': 5.0}, 'only random crops and flips'),
        ('augment', {'randaugment': (2, 0.3)}, 'only random crops and flips'),
    ],
)
def test_batches_of_peer_refuses_other_configs(part, changes, message, config):
    config[part].update(changes)
    for peer in INPUT_PEERS:
        with pytest.raises(UserError, match=message):
            batches_of_peer(peer, PREPROCESS, config)


def test_batches_of_peer_refuses_other_files_than_jpegs(config, tmp_path):
    (tmp_path / 'dark' / 'image.png').write_bytes(b'')
    with pytest.raises(UserError, match='only a folder of JPEGs'):
        batches_of_peer('timm', PREPROCESS, config)


@pytest.mark.parametrize('peer', INPUT_PEERS)
def test_batches_of_peer_without_the_peer_names_the_package(peer, config, monkeypatch):
    monkeypatch.setitem(sys.modules, peer, None)
    with pytest.raises(UserError, match=f'{peer} is not installed'):
        batches_of_peer(peer, PREPROCESS, config)
