from functools import partial

import jax
import numpy as np
import pytest

from vitjax.config import read_config
from vitjax.errors import UserError
from vitjax.models.registry import create_model
from vitjax.tasks import TASKS
from vitjax.training.build import build_experiment

TASK = TASKS['masked_autoencoding']()
MODEL = create_model(
    'mae',
    image_size=4,
    patch_size=2,
    in_channels=1,
    width=8,
    depth=1,
    num_heads=2,
    decoder_width=8,
    decoder_depth=1,
    decoder_num_heads=2,
    mask_ratio=0.5,
)
IMAGES = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)


@pytest.fixture(scope='module')
def variables():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@partial(jax.jit, static_argnames='train')
def metrics(variables, mask, rngs, train):
    return TASK.metrics(MODEL, variables, {'image': IMAGES, 'mask': mask}, rngs=rngs, train=train)


def loss(variables, mask, rngs, train):
    values, state = metrics(variables, np.array(mask), rngs, train)
    assert not state
    return np.asarray(values['loss'])


def test_the_loss_is_the_error_of_hidden_patches_of_examples_that_count(variables):
    result = jax.jit(MODEL.apply)(variables, IMAGES)
    patches = IMAGES.reshape(3, 2, 2, 2, 2).swapaxes(2, 3).reshape(3, 4, 4)
    mean, variance = patches.mean(-1, keepdims=True), patches.var(-1, ddof=1, keepdims=True)
    error = np.square(
        np.asarray(result['prediction']).reshape(3, 4, 4) - (patches - mean) / np.sqrt(variance)
    )
    each = [error[i][np.asarray(result['hidden'][i])].mean() for i in range(3)]
    for mask in ([True] * 3, [True, False, True], [False] * 3):
        found = loss(variables, mask, rngs={}, train=False)
        np.testing.assert_allclose(found, [np.dot(each, mask), sum(mask)], rtol=1e-4, atol=1e-6)


def test_training_hides_anew_and_evaluation_never(variables):
    mask = [True] * 3
    keys = [{'dropout': jax.random.key(seed)} for seed in (1, 1, 2)]
    one, same, other = (loss(variables, mask, rngs=rngs, train=True) for rngs in keys)
    np.testing.assert_array_equal(one, same)
    assert one[0] != other[0]
    evaluated = [loss(variables, mask, rngs={}, train=False) for _ in range(2)]
    np.testing.assert_array_equal(*evaluated)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'task.name': 'masked_autoencoding'}, 'takes a model such as mae_b16, not a ViT'),
        (
            {'model.name': 'mae', 'model.num_heads': '4'},
            'takes a model with num_classes, which MAE has not',
        ),
    ],
)
def test_task_and_model_fit_together(recipe, changes, message):
    config = read_config(str(recipe), changes)
    with pytest.raises(UserError, match=message):
        build_experiment(config)
