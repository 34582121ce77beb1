import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from vitjax.config import base_config, complete
from vitjax.errors import UserError
from vitjax.tasks import TASKS
from vitjax.training.build import build_experiment

CLASSES = 6
LABELS = np.arange(CLASSES)


class Looks(nn.Module):
    """Sees the class in the image, and keeps what it has seen."""

    @nn.compact
    def __call__(self, images, train=False):
        seen = self.variable('seen', 'images', lambda: jnp.zeros((CLASSES, CLASSES)))
        logits = images.reshape(len(images), -1)
        if train:
            seen.value = logits
        return logits


def metrics(mask=(True,) * CLASSES, train=True, seed=0, **task):
    images = np.eye(CLASSES, dtype=np.float32).reshape(CLASSES, 1, CLASSES, 1)
    batch = {'image': images, 'label': LABELS, 'mask': np.array(mask)}
    variables = {'seen': {'images': jnp.zeros((CLASSES, CLASSES))}}
    rngs = {'dropout': jax.random.key(seed)} if train else {}
    found, state = TASKS['classification'](**task).metrics(
        Looks(), variables, batch, rngs=rngs, train=train
    )
    return found, state['seen']['images'] if train else None


def test_mixup_mixes_images_and_targets_by_the_same_share():
    found, seen = metrics(mixup=1.0, label_smoothing=0.1)
    own = seen[LABELS, LABELS]
    assert (own >= 0.5).all()
    assert ((own > 0.5) & (own < 1)).any()
    np.testing.assert_allclose(seen[LABELS, LABELS - 1], 1 - own, atol=1e-6)
    loss = optax.softmax_cross_entropy(seen, optax.smooth_labels(seen, 0.1)).sum()
    np.testing.assert_allclose(found['loss'], [loss, CLASSES], rtol=1e-5)
    np.testing.assert_array_equal(found['accuracy'], [CLASSES, CLASSES])


@pytest.mark.parametrize('alpha', [1e-9, 0.2, 1.0, 20.0, 1e9])
def test_shares_are_of_the_beta_distribution(alpha):
    shares = jax.jit(jax.vmap(lambda seed: metrics(mixup=alpha, seed=seed)[1][0, 0]))
    found = shares(jnp.arange(2000))
    drawn = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    expected = np.maximum(drawn, 1 - drawn)
    assert abs(found.mean() - expected.mean()) < 0.015
    assert abs(found.std() - expected.std()) < 0.015


def test_what_was_left_out_is_not_mixed_in():
    mask = [True, False, True, True, False, False]
    found, seen = metrics(mask, mixup=1.0)
    # The first comes after the last.
    np.testing.assert_array_equal(np.diag(seen) == 1, np.roll(~np.array(mask), 1))
    assert found['loss'][1] == 3


def test_each_step_mixes_anew_and_evaluation_never():
    shares = [np.diag(metrics(mixup=0.2, seed=seed)[1]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(shares[0], shares[1])
    assert (shares[0] != shares[2]).any()
    for train in (True, False):
        plain = metrics(train=train)[0]
        evaluated = metrics(train=False, mixup=0.2, label_smoothing=0.1)[0]
        jax.tree.map(np.testing.assert_array_equal, evaluated, plain)


@pytest.mark.parametrize(
    ('key', 'value'), [('mixup', '-0.1'), ('label_smoothing', '1'), ('label_smoothing', '-0.1')]
)
def test_values_out_of_range_are_refused(key, value):
    config = base_config()
    config.steps = 1
    config.model.update(name='vit_ti16', image_size=8, patch_size=8, in_channels=1, num_classes=10)
    with pytest.raises(UserError, match=rf'^config.task: {key} must be .*, not {float(value)}$'):
        build_experiment(complete(config, {f'task.{key}': value}), read_data=False)
