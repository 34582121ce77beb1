"""Checkpoints of a run, without a run around them."""

import jax
import numpy as np
import pytest

from vitjax.checkpoints import Checkpoints, best_step, compare_shapes, finished_steps
from vitjax.errors import UserError


def tree(step):
    return {'params': {'kernel': np.full((2, 3), step, np.float32)}}


def shapes_of(values):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), values)


def write(folder, losses, **options):
    """Checkpoints with these losses at steps 1, 2, ..."""
    checkpoints = Checkpoints(folder, **options)
    for step, loss in enumerate(losses, 1):
        checkpoints.save(
            step,
            model=tree(step),
            training={'step': np.int32(step)},
            data={'position': step},
            meta={'note': str(step)},
            metrics=None if loss is None else {'loss': loss},
        )
        checkpoints.wait()
    return checkpoints


def test_restore_returns_what_was_saved(tmp_path):
    checkpoints = write(tmp_path / 'checkpoints', [0.5])
    spec = {'model': shapes_of(tree(1)), 'training': {'step': jax.ShapeDtypeStruct((), np.int32)}}
    model, training, data, meta = checkpoints.restore(1, **spec)
    np.testing.assert_array_equal(model['params']['kernel'], tree(1)['params']['kernel'])
    assert (int(training['step']), data, meta['note']) == (1, {'position': 1}, '1')
    assert checkpoints.shapes(1, 'model') == {'params/kernel': (2, 3)}
    checkpoints.close()


@pytest.mark.parametrize(
    ('options', 'kept'),
    [
        ({'keep': 1}, [4]),
        ({'keep': 2}, [3, 4]),
        ({'keep': 1, 'best': '-loss'}, [2, 4]),
        ({'keep': 1, 'best': 'loss', 'keep_best': 2}, [1, 3, 4]),
    ],
)
def test_newest_and_best_checkpoints_are_kept(options, kept, tmp_path):
    checkpoints = write(tmp_path / 'checkpoints', [0.9, 0.1, 0.7, 0.4], **options)
    assert checkpoints.steps() == kept
    checkpoints.close()
    assert finished_steps(tmp_path / 'checkpoints') == kept


def test_best_step_ranks_by_metric_and_names_those_that_are_recorded(tmp_path):
    folder = tmp_path / 'checkpoints'
    write(folder, [0.9, 0.1, 0.7], keep=3, best='loss').close()
    assert (best_step(folder, 'loss'), best_step(folder, '-loss')) == (1, 2)
    with pytest.raises(UserError, match="no checkpoint has recorded 'accuracy'; recorded are loss"):
        best_step(folder, 'accuracy')


def test_discarded_checkpoint_is_gone(tmp_path):
    checkpoints = write(tmp_path / 'checkpoints', [0.9, 0.1], keep=2)
    checkpoints.discard(2)
    assert checkpoints.steps() == [1]
    checkpoints.close()


@pytest.mark.parametrize(
    ('stored', 'wanted', 'message'),
    [
        ({'a': (1,)}, {'a': (2,)}, 'a'),
        ({}, {'a': (2,)}, 'a'),
        ({'a': (1,), 'b': (1,)}, {'a': (1,)}, 'b'),
    ],
)
def test_compare_shapes_names_the_arrays_that_differ(stored, wanted, message):
    compare_shapes('here', wanted, wanted)
    with pytest.raises(UserError, match=f'here.*{message}'):
        compare_shapes('here', stored, wanted)
