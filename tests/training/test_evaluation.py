"""Evaluations of a split: exact means over examples, and the checks of what evaluators return."""

import numpy as np
import pytest

import vitjax
from vitjax.errors import UserError
from vitjax.training.build import build_experiment
from vitjax.training.evaluation import SplitEvaluator, named_evaluations, numbers


@pytest.fixture(scope='module')
def experiment():
    config = vitjax.base_config()
    config.model = {
        **{'name': 'vit', 'image_size': 8, 'patch_size': 4, 'in_channels': 1},
        **{'width': 16, 'depth': 1, 'num_heads': 2, 'mlp_dim': 16},
    }
    config.data.eval_split = 'test[:21]'
    config.batch_size = 8
    config.steps = 4
    return build_experiment(vitjax.read_config(config))


@pytest.fixture(scope='module')
def variables(experiment):
    return experiment.init_state().variables


def test_every_example_counts_once_whatever_the_last_batch_holds(experiment, variables):
    found = SplitEvaluator(experiment)(variables)
    assert found['examples'] == 21
    source = experiment.data.evaluation
    images = experiment.data.preprocess.normalise(np.stack([source[i]['image'] for i in range(21)]))
    logits = np.asarray(experiment.model.apply(variables, images))
    labels = np.array([source[i]['label'] for i in range(21)])
    log_z = np.log(np.exp(logits).sum(-1))
    assert found['accuracy'] == pytest.approx((logits.argmax(-1) == labels).mean())
    assert found['loss'] == pytest.approx((log_z - logits[np.arange(21), labels]).mean(), abs=1e-5)


def test_batches_hold_every_example_once(experiment, variables):
    counts = []

    def count(event):
        counts.append([int(batch['mask'].sum()) for batch in event.batches])
        counts.append([int(b['mask'].sum()) for b in event.batches(split='test[:5]')])
        return {'twice': 2 * event.evaluate()['examples']}

    [evaluation] = named_evaluations({'count': {'name': count}}, experiment)
    assert evaluation(3, variables) == {'twice': 42}
    assert [sum(x) for x in counts] == [21, 5]


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'word': 'text'}, "word is 'text', not a number"),
        ({'step': 1.0}, "'step' is a name that every record has"),
        ({'many': np.zeros(3)}, 'many is'),
    ],
)
def test_numbers_refuses_what_is_no_number(values, message):
    assert numbers({'a': np.float32(1.5), 'b': 2}, 'here') == {'a': 1.5, 'b': 2}
    with pytest.raises(UserError, match=f'here: {message}'):
        numbers(values, 'here')


def test_an_evaluator_returns_a_dict(experiment, variables):
    [evaluation] = named_evaluations({'odd': {'name': lambda event: 3}}, experiment)
    with pytest.raises(UserError, match=r'config.evals.odd returned int'):
        evaluation(0, variables)


@pytest.mark.parametrize(
    ('entries', 'only', 'message'),
    [
        ({'a': {'name': 'metrics', 'every': 0}}, None, 'every must be at least one step'),
        ({'a': {'name': 'metrics'}}, ('b',), 'unknown entry of config.evals'),
    ],
)
def test_entries_that_cannot_be(experiment, entries, only, message):
    with pytest.raises(UserError, match=message):
        named_evaluations(entries, experiment, only=only)
