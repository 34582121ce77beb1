import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from vitjax.errors import UserError
from vitjax.evaluation import knn
from vitjax.evaluation.knn import KNN, knn_votes


def random_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 16)), rng.integers(0, 5, 300), rng.normal(size=(70, 16))


def digits():
    data = load_digits()
    return data.data[:1200], data.target[:1200], data.data[1200:]


@pytest.mark.parametrize('data', [random_data, digits])
@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (20, 0.07), (7, 1.0)])
def test_votes_are_those_of_scikit_learn(data, k, temperature, monkeypatch):
    monkeypatch.setattr(knn, '_CHUNK', 64)  # several chunks, the last of fewer examples
    train, labels, test = data()
    theirs = KNeighborsClassifier(
        k, weights=lambda distance: np.exp((1 - distance) / temperature), metric='cosine'
    )
    expected = theirs.fit(train, labels).predict_proba(test)
    found = knn_votes(train, labels, test, k=k, temperature=temperature)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_small_temperature_does_not_overflow():
    train, labels, test = random_data()
    votes = knn_votes(train, labels, test, k=5, temperature=1e-3)
    assert np.isfinite(votes).all()
    np.testing.assert_array_equal(
        votes.argmax(1), knn_votes(train, labels, test, k=1, temperature=1.0).argmax(1)
    )


def test_fewer_training_examples_than_neighbours_are_refused(pooled_event):
    with pytest.raises(UserError, match='k is 99, but there are 12 training examples'):
        KNN(k=99)(pooled_event(np.eye(12), np.arange(12), np.eye(12), np.arange(12)))


def test_every_example_votes_and_is_judged_once(pooled_event):
    features = np.random.default_rng(1).normal(size=(13, 6))
    labels = np.arange(13) % 3
    wrong = np.where(np.arange(13) < 3, (labels + 1) % 3, labels)
    found = KNN(k=1)(pooled_event(features, labels, features * 2, wrong))
    assert found == {'accuracy': pytest.approx(10 / 13), 'examples': 13}
