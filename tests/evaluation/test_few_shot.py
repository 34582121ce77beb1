import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from vitjax.errors import UserError
from vitjax.evaluation.few_shot import FewShot, choose_examples, ridge_scores

DIGITS = load_digits()


@pytest.mark.parametrize('count', [30, 500])  # fewer examples than features, and more
@pytest.mark.parametrize('l2', [2**-6, 1.0, 64.0])
def test_scores_are_those_of_scikit_learn(count, l2):
    train, labels, test = DIGITS.data[:count], DIGITS.target[:count], DIGITS.data[1000:1100]
    scaler = StandardScaler().fit(train)
    # The constant feature is one of those that are regularised.
    x, z = (np.pad(scaler.transform(a), ((0, 0), (0, 1)), constant_values=1) for a in (train, test))
    theirs = Ridge(alpha=l2, fit_intercept=False).fit(x, 2 * np.eye(10)[labels] - 1)
    found = ridge_scores(train, labels, test, l2=l2)
    np.testing.assert_allclose(found, theirs.predict(z), atol=1e-6)


def test_examples_are_chosen_by_class_and_seed():
    labels = DIGITS.target
    one, again, other = (choose_examples(labels, 5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert np.bincount(labels[one]).tolist() == [5] * 10
    assert set(choose_examples(labels, 2, 0)) < set(one)
    with pytest.raises(UserError, match='class 0 has 178 training examples, fewer than 200'):
        choose_examples(labels, 200, 0)


def test_a_result_for_each_number_of_shots_and_strength(pooled_event):
    data = DIGITS.data / 16
    event = pooled_event(data[:1400], DIGITS.target[:1400], data[1400:], DIGITS.target[1400:])
    found = FewShot(shots=(1, 25), l2=(1.0, 64.0))(event)
    assert found.pop('examples') == 397
    assert found.keys() == {'1shot_l2=1', '1shot_l2=64', '25shot_l2=1', '25shot_l2=64'}
    assert found['25shot_l2=64'] > 0.8 > found['1shot_l2=64'] > 0.3


def test_a_feature_that_is_constant_says_nothing(pooled_event):
    data = np.pad(DIGITS.data, ((0, 0), (0, 3)), constant_values=7.0)
    same = ridge_scores(DIGITS.data[:100], DIGITS.target[:100], DIGITS.data[100:110], l2=1.0)
    found = ridge_scores(data[:100], DIGITS.target[:100], data[100:110], l2=1.0)
    np.testing.assert_allclose(found, same, atol=1e-9)
