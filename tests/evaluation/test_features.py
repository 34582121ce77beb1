import dataclasses
import types

import numpy as np
import pytest
from flax import linen as nn

from vitjax.errors import UserError
from vitjax.evaluation.features import collect_features


def test_each_example_once_and_in_order(pooled_event):
    train, test = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
    event = pooled_event(train, np.arange(9), test, np.arange(9)[::-1])
    found = collect_features(event)
    np.testing.assert_array_equal(found.values, test)
    np.testing.assert_array_equal(found.labels, np.arange(9)[::-1])
    np.testing.assert_array_equal(collect_features(event, 'train').values, train)


def test_a_model_without_features_is_refused(pooled_event):
    event = pooled_event(*[np.eye(3), np.arange(3)] * 2)
    event = dataclasses.replace(event, experiment=types.SimpleNamespace(model=nn.Dense(3)))
    with pytest.raises(UserError, match=r'Dense has no method features'):
        collect_features(event)
