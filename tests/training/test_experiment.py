"""What an experiment derives from its parts, and the batches that devices can share."""

import jax
import pytest

import vitjax
from vitjax.errors import UserError
from vitjax.training.build import build_experiment
from vitjax.training.experiment import check_batches


@pytest.fixture(scope='module')
def experiment():
    config = vitjax.base_config()
    config.model = {
        **{'name': 'cnn', 'image_size': 8, 'in_channels': 1, 'widths': (4,)},
        **{'stage_depth': 1, 'norm': 'batch'},
    }
    config.batch_size = 8
    config.steps = 4
    return build_experiment(vitjax.read_config(config))


def test_abstract_state_is_that_of_init_state(experiment):
    state = experiment.init_state()
    found = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    expected = jax.tree.map(lambda x: (x.shape, x.dtype), experiment.abstract_state)
    assert found == expected
    assert int(state.step) == 0
    assert 'batch_stats' in state.variables


def test_random_variables_follow_the_seed(experiment):
    first, second = experiment.random_variables(), experiment.random_variables()
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, second))


def test_abstract_batch_is_that_of_the_data(experiment):
    batch = next(iter(experiment.data.train_batches(8, (0, 1))))
    batch = batch[0] if isinstance(batch, tuple) else batch
    shapes = {name: (x.shape, x.dtype) for name, x in batch.items()}
    expected = {name: (x.shape, x.dtype) for name, x in experiment.abstract_batch().items()}
    assert shapes.keys() <= expected.keys()
    assert all(expected[name] == shape for name, shape in shapes.items())


def test_check_metric_names_the_nearest(experiment):
    experiment.check_metric('accuracy')
    experiment.check_metric('knn/accuracy', ['knn'])
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        experiment.check_metric('acuracy')


def test_check_batches_needs_a_multiple_of_devices_and_micro_batches():
    mesh = jax.make_mesh((1, 1, 1), ('data', 'fsdp', 'tensor'), devices=jax.devices()[:1])
    check_batches(mesh, {'batch_size': 6}, accumulate=3)
    with pytest.raises(UserError, match='batch_size'):
        check_batches(mesh, {'batch_size': 6}, accumulate=4)
