import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_events import Identity, Traces, make_event, random_splits
from flax import linen as nn

from vitjax.errors import UserError
from vitjax.evaluation.features import collect_features


class NoFeatures(nn.Module):
    def __call__(self, images):
        return images


class NoPooled(NoFeatures):
    def features(self, images):
        return {'tokens': images}


class Maps(NoFeatures):
    def features(self, images):
        return {'pooled': images}


class HalfPrecision(nn.Module):
    def features(self, images):
        return {'pooled': images.reshape(len(images), -1).astype(jnp.bfloat16)}


@pytest.mark.parametrize('split', [None, 'train'])
def test_each_example_comes_once_and_in_order(split):
    splits = random_splits()
    event = make_event(splits, variables={'params': {'scale': np.float32(2)}})
    features, labels = collect_features(event, split)
    expected = splits[split or 'test']
    assert features.dtype == np.float32
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(features, 2 * expected['image'].reshape(len(features), -1))
    np.testing.assert_array_equal(labels, expected['label'])


def test_features_are_float32_of_a_model_in_bfloat16():
    splits = {'test': {'image': np.full((3, 1, 2, 1), 1 / 3, np.float32), 'label': np.arange(3)}}
    features, _ = collect_features(make_event(splits, model=HalfPrecision()))
    assert features.dtype == np.float32
    assert np.abs(features - 1 / 3).max() < 1e-3


def test_variables_are_arguments_of_what_is_compiled_once():
    traces = Traces()
    event = make_event(random_splits(), model=Identity(traces))
    first, _ = collect_features(event)
    collect_features(event, 'train')
    event.variables = {'params': {'scale': np.float32(3)}}
    second, _ = collect_features(event)
    np.testing.assert_array_equal(second, 3 * first)
    assert traces.shapes == [(8, 2, 3, 1)]


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (NoFeatures(), 'NoFeatures has no method features'),
        (NoPooled(), "NoPooled.features returns no 'pooled', but tokens"),
        (Maps(), r"'pooled' of shape \(8, 2, 3, 1\), not \[B, D\]"),
    ],
)
def test_model_without_pooled_features_is_refused(model, message):
    with pytest.raises(UserError, match=message):
        collect_features(make_event(random_splits(), model=model))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'image': None}, "split 'test' have no 'image'"),
        ({'label': None}, "split 'test' have no 'label'"),
        ({'label': np.eye(23, 7, dtype=np.float32)}, r'float32 \[8, 7\]; .* one class index'),
        ({'label': np.full(23, -1)}, 'without a label: -1'),
    ],
)
def test_batch_without_images_or_classes_is_refused(changes, message):
    arrays = random_splits()['test'] | changes
    arrays = {name: values for name, values in arrays.items() if values is not None}
    with pytest.raises(UserError, match=message):
        collect_features(make_event({'test': arrays}))


ON_DEVICES = """
import json, jax
from evaluation_events import make_event, random_splits
from vitjax.evaluation import FewShot, KNN
from vitjax.evaluation.features import collect_features

event = make_event(random_splits())
features, labels = collect_features(event)
values = {
    'devices': jax.device_count(),
    'features': features.tolist(),
    'labels': labels.tolist(),
    'knn': KNN(k=5)(event),
    'few_shot': FewShot(shots=(1, 5))(event),
}
print(json.dumps(values))
"""


def test_eight_devices_give_what_one_does(environment):
    found = []
    for devices in (1, 8):
        variables = environment(devices, optimise=False)
        variables['PYTHONPATH'] += f':{Path(__file__).parent}'
        command = [sys.executable, '-c', ON_DEVICES]
        result = subprocess.run(command, capture_output=True, text=True, env=variables)
        assert result.returncode == 0, result.stderr
        found.append(json.loads(result.stdout))
    assert [values.pop('devices') for values in found] == [1, 8]
    assert found[0] == found[1]
