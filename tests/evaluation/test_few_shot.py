import math

import numpy as np
import pytest
from evaluation_events import make_event, random_splits
from sklearn.linear_model import Ridge

from vitjax.errors import UserError
from vitjax.evaluation import FewShot
from vitjax.evaluation.few_shot import draw_shots, fit_ridge


def padded(features, mean, std):
    """Standardised features and the constant one, [N, D + 1]."""
    return np.pad((features - mean) / (std + 1e-5), ((0, 0), (0, 1)), constant_values=100.0)


@pytest.mark.parametrize('l2', [2.0**-10, 1.0, 2.0**10])
@pytest.mark.parametrize('count', [200, 20], ids=['more examples', 'more features'])
def test_classifier_is_that_of_scikit_learn(l2, count):
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, size=(count, 64)).astype(np.float32)
    labels = rng.integers(5, size=count)
    test = rng.normal(3, 2, size=(50, 64)).astype(np.float32)
    kernel, bias = fit_ridge(features, labels, l2, 5)
    mean, std = (x(features.astype(np.float64), axis=0) for x in (np.mean, np.std))
    peer = Ridge(alpha=l2, fit_intercept=False, solver='cholesky')
    peer.fit(padded(features, mean, std), 2.0 * np.eye(5)[labels] - 1)
    np.testing.assert_allclose(
        kernel * (std + 1e-5)[:, None], peer.coef_.T[:-1], rtol=1e-6, atol=1e-9
    )
    scores = peer.predict(padded(test, mean, std))
    np.testing.assert_allclose(test @ kernel + bias, scores, rtol=1e-6, atol=1e-7)


def test_bias_is_hardly_regularised():
    """With all the L2 there is, scores are the targets' means."""
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 10)
    kernel, bias = fit_ridge(rng.normal(size=(40, 8)), labels, 2.0**10, 2)
    np.testing.assert_allclose(bias + 0 * kernel[0], [0.5, -0.5], atol=0.02)


def test_constant_feature_changes_nothing():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 8)), np.arange(40) % 4
    constant = np.full((40, 1), 7.0)
    kernel, bias = fit_ridge(features, labels, 1.0, 4)
    with_kernel, with_bias = fit_ridge(np.hstack([features, constant]), labels, 1.0, 4)
    np.testing.assert_allclose(with_kernel[:-1], kernel, atol=1e-9)
    np.testing.assert_allclose(with_bias + 7 * with_kernel[-1], bias, atol=1e-9)


def test_shots_are_nested_and_of_every_class():
    labels = np.random.default_rng(1).integers(4, size=200)
    few, many = draw_shots(labels, 5, 0), draw_shots(labels, 10, 0)
    assert set(few) < set(many)
    assert len(set(many)) == 40
    assert np.bincount(labels[many]).tolist() == [10] * 4
    assert draw_shots(labels, 5, 0).tolist() == few.tolist()
    assert draw_shots(labels, 5, 1).tolist() != few.tolist()


def test_accuracy_is_the_mean_over_draws(digits):
    event = make_event(digits, batch_size=64)
    found = FewShot(shots=(1, 10), seeds=2)(event)
    (x, y), (test, labels) = (
        (part['image'].reshape(len(part['label']), -1), part['label'])
        for part in (digits['train'], digits['test'])
    )
    for shots in (1, 10):
        accuracies = []
        for seed in range(2):
            chosen = draw_shots(y, shots, seed)
            mean, std = x[chosen].mean(0, np.float64), x[chosen].std(0, dtype=np.float64)
            peer = Ridge(alpha=2.0**10, fit_intercept=False)
            peer.fit(padded(x[chosen], mean, std), 2.0 * np.eye(10)[y[chosen]] - 1)
            predicted = peer.predict(padded(test, mean, std)).argmax(axis=1)
            accuracies.append((predicted == labels).mean())
        assert accuracies[0] != accuracies[1]
        # Far from the few examples, borders may fall otherwise by rounding for a handful of images.
        assert found[f'{shots}shot'] == pytest.approx(np.mean(accuracies), abs=0.005)
    assert found['1shot'] < found['10shot']
    assert FewShot(shots=(1, 10), seeds=2)(event) == found


def test_each_strength_has_a_result():
    event = make_event(random_splits())
    both = FewShot(shots=(1, 5), l2=(0.5, 2.0**10))(event)
    assert list(both) == ['1shot_l2_0.5', '1shot_l2_1024', '5shot_l2_0.5', '5shot_l2_1024']
    alone = FewShot(shots=(1, 5))(event)
    assert alone == {'1shot': both['1shot_l2_1024'], '5shot': both['5shot_l2_1024']}


def test_class_with_too_few_examples_is_named():
    splits = random_splits()
    names = tuple('abcdefg')
    message = "class 'd' has 4 examples in split 'train', fewer than 5 shots"
    kept = np.flatnonzero(splits['train']['label'] == 3)[:4]
    others = np.flatnonzero(splits['train']['label'] != 3)
    train = {name: values[np.append(others, kept)] for name, values in splits['train'].items()}
    event = make_event(splits | {'train': train}, labels=names)
    with pytest.raises(UserError, match=message):
        FewShot(shots=(1, 5))(event)
    assert FewShot(shots=(1, 4))(event).keys() == {'1shot', '4shot'}


def test_class_that_is_only_evaluated_is_refused():
    splits = random_splits()
    splits['test']['label'][0] = 9
    with pytest.raises(UserError, match="class 9 has 0 examples in split 'train'"):
        FewShot(shots=(1,))(make_event(splits))


def test_features_that_are_not_finite_have_no_accuracy():
    splits = random_splits()
    splits['test']['image'][3] = np.inf
    assert math.isnan(FewShot(shots=(1,))(make_event(splits))['1shot'])


def test_training_split_is_not_the_evaluated_one():
    with pytest.raises(UserError, match='cannot learn from the split that it is measured on'):
        FewShot(shots=(1,), train_split='test')(make_event(random_splits()))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'shots': ()}, 'shots'),
        ({'shots': (0, 1)}, 'shots'),
        ({'shots': (5, 5)}, 'repeat'),
        ({'l2': (0.0,)}, 'l2'),
        ({'l2': (float('nan'),)}, 'l2'),
        ({'seeds': 0}, 'seeds'),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        FewShot(**arguments)
