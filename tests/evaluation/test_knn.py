import math

import numpy as np
import pytest
from evaluation_events import make_event, random_splits
from sklearn.neighbors import KNeighborsClassifier

from vitjax.errors import UserError
from vitjax.evaluation import KNN, knn
from vitjax.evaluation.knn import knn_predict


def flat(split):
    """Features and labels of a split."""
    return split['image'].reshape(len(split['label']), -1), split['label']


def by_scikit_learn(splits, k, temperature):
    """Probabilities [M, K]."""
    peer = KNeighborsClassifier(
        n_neighbors=k,
        metric='cosine',
        algorithm='brute',
        weights=lambda distances: np.exp((1 - distances) / temperature),
    )
    return peer.fit(*flat(splits['train'])).predict_proba(flat(splits['test'])[0])


def votes(splits, k, temperature, num_classes):
    train, (features, _) = flat(splits['train']), flat(splits['test'])
    return knn_predict(*train, features, k=k, temperature=temperature, num_classes=num_classes)


@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (20, 0.07), (20, 1.0), (60, 0.2)])
def test_votes_are_those_of_scikit_learn(k, temperature):
    splits = random_splits()
    found = votes(splits, k, temperature, 7)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_scikit_learn(splits, k, temperature), atol=2e-5)


def test_votes_on_digits_are_those_of_scikit_learn(digits):
    found, expected = votes(digits, 20, 0.07, 10), by_scikit_learn(digits, 20, 0.07)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_evaluator_measures_digits(digits):
    metrics = KNN(k=20)(make_event(digits, batch_size=64))
    expected, labels = by_scikit_learn(digits, 20, 0.07), digits['test']['label']
    assert metrics['accuracy'] == pytest.approx((expected.argmax(axis=1) == labels).mean())
    five = np.argsort(-expected, axis=1, kind='stable')[:, :5]
    voted = np.take_along_axis(expected, five, axis=1) > 0
    hits = ((five == labels[:, None]) & voted).any(axis=1)
    assert metrics['top5_accuracy'] == pytest.approx(hits.mean())
    assert 0.9 < metrics['accuracy'] < metrics['top5_accuracy'] <= 1


def test_five_classes_have_no_top5():
    splits = random_splits(classes=5)
    assert KNN(k=5)(make_event(splits)).keys() == {'accuracy'}


def test_chunks_change_nothing(monkeypatch):
    splits = random_splits()
    whole = votes(splits, 20, 0.07, 7)
    shapes = []
    in_one = knn._votes

    def spy(train, labels, queries, *args, **kwargs):
        shapes.append((len(queries), len(train)))
        return in_one(train, labels, queries, *args, **kwargs)

    monkeypatch.setattr(knn, '_votes', spy)
    monkeypatch.setattr(knn, '_MAX_SIMILARITIES', 5 * 60)
    np.testing.assert_allclose(votes(splits, 20, 0.07, 7), whole, atol=1e-6)
    assert shapes == [(5, 60)] * 5  # 23 queries


def test_first_of_equal_neighbours_and_first_of_equal_classes_win():
    train = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    labels = np.array([2, 1, 0, 0])
    query = np.array([[2, 0]], np.float32)
    arguments = {'temperature': 0.1, 'num_classes': 3}
    # Equal similarities: the first two examples are the neighbours, their classes 2 and 1 tie.
    found = knn_predict(train, labels, query, k=2, **arguments)
    np.testing.assert_allclose(found, [[0, 0.5, 0.5]])
    assert found.argmax() == 1


def test_small_temperature_does_not_overflow():
    splits = random_splits()
    found = votes(splits, 20, 1e-3, 7)
    assert np.isfinite(found).all()
    nearest = votes(splits, 1, 1.0, 7)
    np.testing.assert_array_equal(found.argmax(axis=1), nearest.argmax(axis=1))


def test_zeros_are_similar_to_nothing():
    train = np.array([[0, 0], [1, 0]], np.float32)
    found = knn_predict(
        *(train, np.array([0, 1]), np.array([[1, 0], [0, 0]], np.float32)),
        k=2,
        temperature=1.0,
        num_classes=2,
    )
    e = math.e
    np.testing.assert_allclose(found, [[1 / (1 + e), e / (1 + e)], [0.5, 0.5]], rtol=1e-6)


def test_features_that_are_not_finite_have_no_accuracy():
    splits = random_splits()
    splits['train']['image'][3] = np.nan
    metrics = KNN(k=5)(make_event(splits))
    assert metrics.keys() == {'accuracy', 'top5_accuracy'}
    assert all(map(math.isnan, metrics.values()))


def test_class_without_votes_is_not_among_the_five():
    splits = random_splits(counts={'train': 60, 'test': 7})
    splits['train']['label'][:] = 6
    metrics = KNN(k=5)(make_event(splits))
    assert metrics == {'accuracy': pytest.approx(1 / 7), 'top5_accuracy': pytest.approx(1 / 7)}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'k': 61}, "k is 61, but split 'train' has 60 examples"),
        ({'train_split': 'test'}, 'cannot learn from the split that it is measured on'),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        KNN(**arguments)(make_event(random_splits()))


@pytest.mark.parametrize('arguments', [{'k': 0}, {'temperature': 0.0}])
def test_arguments_are_checked(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        KNN(**arguments)


def test_another_training_split_is_used():
    splits = random_splits()
    first = {name: values[:30] for name, values in splits['train'].items()}
    expected = KNN(k=3)(make_event(splits | {'train': first}))
    found = KNN(k=3, train_split='half')(make_event(splits | {'half': first}))
    assert found == expected != KNN(k=3)(make_event(splits))
