"""The models that `vitjax bench` compares with compute the same function."""

import sys

import jax
import numpy as np
import pytest

from vitjax.config import base_config
from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError
from vitjax.models.registry import create_model
from vitjax.planning import peers
from vitjax.planning.benchmark import versions

PREPROCESS = Preprocess((8, 8), 3, 1.0, (0.5,) * 3, (0.5,) * 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
BATCH = {'image': IMAGES, 'label': np.array([0, 2])}


def steps(peer='timm', compute='float32', **changes):
    """Model, variables and the peer's steps of a tiny ViT."""
    model = create_model('vit_ti16', image_size=8, patch_size=4, num_classes=3, depth=1, **changes)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    head = variables['params']['head']['kernel']  # initialised with zeros
    variables['params']['head']['kernel'] = jax.random.normal(jax.random.key(1), head.shape) / 14
    config = base_config()
    config.precision.compute = compute
    config.optimizer.learning_rate = 0.1
    return model, variables, peers.steps_of_peer(peer, model, variables, PREPROCESS, config, BATCH)


@pytest.mark.parametrize('peer', peers.PEERS)
def test_steps_of_peer_have_the_same_logits_before_training(peer):
    pytest.importorskip('torch', reason=f'compares with {peer}, which needs PyTorch')
    pytest.importorskip(peer, reason=f'compares with {peer}')
    model, variables, theirs = steps(peer)
    ours = model.apply(variables, PREPROCESS.normalise(IMAGES))
    assert np.abs(ours).min() > 1e-3
    np.testing.assert_allclose(theirs['forward'](), ours, atol=1e-5)
    np.testing.assert_allclose(theirs['train_step'](), ours, atol=1e-5)
    assert np.abs(theirs['forward']() - ours).max() > 1e-2
    assert versions(peer, 'torch').startswith(f'{peer} ')


@pytest.mark.parametrize('changes', [{'compute': 'bfloat16'}, {'positions': 'rotary'}])
def test_steps_of_peer_refuses_other_models_and_precisions(changes):
    pytest.importorskip('torch', reason='without it another error comes first')
    pytest.importorskip('timm', reason='without it another error comes first')
    with pytest.raises(UserError, match=r'float32 on a CPU|rotary'):
        steps(**changes)


@pytest.mark.slow
def test_steps_of_peer_without_timm_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(UserError, match='torch is not installed'):
        steps()
