import json
from typing import Any, Literal

import ml_collections
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitjax import registry
from vitjax.config import Count, Fraction, complete, in_steps, read_config, reading, total_steps
from vitjax.errors import UserError


def small(
    depth: Count = 2,
    dropout: Fraction = 0.0,
    image_size: int | tuple[int, int] = 8,
    pooling: Literal['cls', 'mean'] = 'cls',
    qk_norm: bool = False,
    dtype: Any = None,
    parent=None,
):
    """Stands for a model: its plain arguments are keys, `dtype` and `parent` are none."""


def large(depth: Count = 24, heads: Count = 16):
    """Stands for another model."""


def data(path: str | None = None):
    """Stands for a data set."""


class Augment:
    """Stands for an augmentation."""

    def __init__(self, crop: tuple[float, float] | None = None):
        pass


TABLES = {
    'task': {'classification': lambda: None},
    'model': {'vit_ti16': small, 'large': large},
    'data': {'digits': data},
    'augment': {'standard': Augment},
    'optimizer': {'adamw': lambda: None, 'muon': lambda: None},
    'schedule': {'cosine': lambda: None},
}


@pytest.fixture(autouse=True, scope='module')
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, 'names', TABLES.__getitem__)
        yield


def recipe(**values):
    config = reading.base_config()
    config.update({'steps': 100} | values)
    return config


def value_of(config, key):
    for part in key.split('.'):
        config = config[part]
    return config


def overridden(key, text):
    return value_of(complete(recipe(), {key: text}), key)


@pytest.mark.parametrize(
    ('key', 'text', 'expected'),
    [
        ('seed', '7', 7),
        ('batch_size', '1e3', 1000),
        ('optimizer.learning_rate', '1', 1.0),
        ('optimizer.learning_rate', '3e-4', 3e-4),
        ('optimizer.clip_norm', 'none', None),
        ('optimizer.clip_norm', 'None', None),
        ('optimizer.clip_norm', '1.0', 1.0),
        ('optimizer.nonfinite', 'skip', 'skip'),
        ('optimizer.frozen', 'encoder/', ('encoder/',)),
        ('optimizer.frozen', "('encoder/', 'head')", ('encoder/', 'head')),
        ('optimizer.frozen', '()', ()),
        ('data.mean', '0.5', (0.5,)),
        ('data.mean', '(0, 0.5, 1)', (0.0, 0.5, 1.0)),
        ('data.mean', '[0.1, 0.2]', (0.1, 0.2)),
        ('data.path', '/data/set', '/data/set'),
        ('data.path', '2024', '2024'),
        ('data.path', 'true', 'true'),
        ('data.skip_corrupt', 'true', True),
        ('data.skip_corrupt', 'False', False),
        ('augment.crop', '(0.5, 1)', (0.5, 1.0)),
        ('schedule.warmup', '10', 10),
        ('schedule.warmup', '5 epochs', '5 epochs'),
        ('model.depth', '12', 12),
        ('model.image_size', '32', 32),
        ('model.image_size', '(32, 48)', (32, 48)),
        ('model.pooling', 'mean', 'mean'),
    ],
)
def test_an_override_is_brought_to_its_type(key, text, expected):
    value = overridden(key, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ('key', 'text', 'message'),
    [
        ('sede', '1', "unknown config key 'sede'; did you mean 'seed'"),
        ('modle.depth', '1', "did you mean 'model'"),
        ('model.dpeth', '1', "unknown key of config.model 'dpeth'; did you mean 'depth'"),
        ('model.dtype', 'float16', "unknown key of config.model 'dtype'"),
        ('model.parent', '1', "unknown key of config.model 'parent'"),
        ('model.depth.kernel', '1', "did you mean 'depth'"),
        ('model.name', 'vit_ti61', "unknown model 'vit_ti61'; did you mean 'vit_ti16'"),
        ('task.name', 'nothing', 'unknown task'),
        ('seed.x', '1', "config.seed is a value and has no key 'x'"),
        ('seed', 'one', "config.seed: expected int between 0 and 4294967295, got 'one'"),
        ('seed', 'true', 'config.seed: expected int between 0 and 4294967295, got True'),
        ('seed', '-1', 'config.seed: -1 is out of range'),
        ('seed', str(2**32), 'expected int between 0 and 4294967295'),
        ('steps', str(2**31), 'expected int between 1 and 2147483647'),
        ('model.name', '', "unknown model ''"),
        ('batch_size', '0', 'config.batch_size: 0 is out of range, expected int at least 1'),
        ('batch_size', '1.5', 'config.batch_size: expected int at least 1, got 1.5'),
        ('model.dropout', '1.5', '1.5 is out of range, expected float between 0 and 1'),
        ('model.qk_norm', '1', 'config.model.qk_norm: expected bool, got 1'),
        ('optimizer.nonfinite', 'go', "expected 'stop' or 'skip', got 'go'"),
        ('optimizer.learning_rate', 'nan', "expected float at least 0, got 'nan'"),
        ('optimizer.learning_rate', '-1e-3', 'out of range'),
        ('augment.crop', '(0.5,)', r'expected \(float, float\) or None, got \(0.5,\)'),
        ('augment.crop', '(0.5, x)', 'augment.crop'),
        ('data.interpolation', 'cubic', "config.data.interpolation: expected 'nearest' or 'box'"),
        ('data.mean', 'grey', r"expected \(float, ...\) or None, got 'grey'"),
    ],
)
def test_a_wrong_override_is_refused(key, text, message):
    with pytest.raises(UserError, match=message):
        complete(recipe(), {key: text})


# Keys of every kind of type -> values that fit it.
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec='utf-8'), max_size=20)
VALUES = {
    'seed': st.integers(0, 2**32 - 1),
    'batch_size': st.integers(1),
    'optimizer.learning_rate': st.floats(0, allow_infinity=False),
    'model.dropout': st.floats(0, 1),
    'model.qk_norm': st.booleans(),
    'model.pooling': st.sampled_from(['cls', 'mean']),
    'model.image_size': st.integers() | st.tuples(st.integers(), st.integers()),
    'data.mean': st.lists(NUMBERS, max_size=4).map(tuple),
    'augment.crop': st.none() | st.tuples(NUMBERS, NUMBERS),
    'optimizer.frozen': st.lists(TEXTS, max_size=3).map(tuple),
    'data.path': st.none() | TEXTS,
    'eval.every': st.none() | st.integers(0) | TEXTS,
}


@pytest.mark.parametrize('key', VALUES)
@given(data=st.data())
def test_a_value_comes_back_from_its_text(key, data):
    value = data.draw(VALUES[key])
    found = overridden(key, repr(value))
    assert found == value
    assert type(found) is type(value)


@given(st.dictionaries(st.sampled_from(list(VALUES)), st.none(), min_size=1), st.data())
def test_a_complete_config_comes_back_from_json(tmp_path_factory, keys, data):
    overrides = {key: repr(data.draw(VALUES[key])) for key in keys}
    config = complete(recipe(), overrides)
    path = tmp_path_factory.mktemp('run') / 'config.json'
    path.write_text(config.to_json())
    assert read_config(str(path)).to_dict() == config.to_dict()
    assert complete(config).to_dict() == config.to_dict()


def test_every_default_fits_its_key():
    config = complete(recipe())
    assert set(config.keys()) == set(reading.base_config().keys())
    assert config.model.to_dict() == {
        'name': 'vit_ti16',
        'pretrained': None,
        'load': None,
        'depth': 2,
        'dropout': 0.0,
        'image_size': 8,
        'pooling': 'cls',
        'qk_norm': False,
    }


def test_completing_leaves_the_recipe_as_it_is():
    config = recipe()
    complete(config, {'model.depth': '3', 'seed': '5'})
    assert config.to_dict() == recipe().to_dict()


def test_a_complete_config_takes_no_new_keys():
    config = complete(recipe())
    with pytest.raises((AttributeError, KeyError)):
        config.model.dpeth = 3


def test_an_override_wins_over_the_recipe():
    config = recipe(model={'name': 'vit_ti16', 'depth': 5})
    assert complete(config).model.depth == 5
    assert complete(config, {'model.depth': '6'}).model.depth == 6


@pytest.mark.parametrize('order', [1, -1])
def test_a_name_comes_before_its_arguments(order):
    config = recipe(model={'name': 'vit_ti16', 'depth': 5, 'dropout': 0.5})
    overrides = {'model.heads': '4', 'model.name': 'large'}
    model = complete(config, dict(list(overrides.items())[::order])).model
    assert model.to_dict() == {
        'name': 'large',
        'pretrained': None,
        'load': None,
        'depth': 5,
        'heads': 4,
    }
    with pytest.raises(UserError, match=r"unknown key of config\.model 'heads'"):
        complete(config, {'model.heads': '4'})


def test_a_recipe_with_an_argument_of_another_name_is_refused():
    with pytest.raises(UserError, match=r"unknown key of config\.model 'dropout'"):
        complete(recipe(model={'name': 'large', 'dropout': 0.1}))


@pytest.mark.parametrize(
    ('values', 'overrides', 'expected'),
    [
        ({'steps': 10}, {}, {'steps': 10}),
        ({'steps': 10}, {'epochs': '2'}, {'epochs': 2.0}),
        ({'steps': None, 'examples': 5}, {}, {'examples': 5}),
        ({'steps': None}, {}, {'epochs': 1.0}),
        ({'steps': 10, 'epochs': 1.0}, {}, None),
        ({}, {'steps': '5', 'epochs': '2'}, None),
    ],
)
def test_a_run_has_one_length(values, overrides, expected):
    if expected is None:
        with pytest.raises(UserError, match=r'exactly one of config\.steps'):
            complete(recipe(**values), overrides)
        return
    config = complete(recipe(**values), overrides)
    lengths = {key: config[key] for key in ('steps', 'epochs', 'examples')}
    assert {key: value for key, value in lengths.items() if value is not None} == expected


RECIPE = """
from vitjax.config import base_config

def get_config(arg=None):
    config = base_config()
    config.steps = 100
    config.model.depth = int(arg or 1)
    return config
"""


@pytest.mark.parametrize(
    ('suffix', 'overrides', 'depth'),
    [('', {}, 1), (':3', {}, 3), (':', {}, 1), (':3', {'model.depth': '4'}, 4)],
)
def test_a_recipe_is_read_with_its_argument(tmp_path, suffix, overrides, depth):
    path = tmp_path / 'recipe.py'
    path.write_text(RECIPE)
    assert read_config(f'{path}{suffix}', overrides).model.depth == depth


@pytest.mark.parametrize(('argument', 'count'), [('2', 0), ('x', 1)])
def test_an_argument_that_changes_nothing_is_told(tmp_path, caplog, argument, count):
    path = tmp_path / 'recipe.py'
    path.write_text(RECIPE.replace('int(arg or 1)', "2 if arg == '2' else 1"))
    read_config(f'{path}:{argument}')
    assert caplog.text.count("the argument 'x' changes nothing") == count


def test_a_recipe_may_need_its_argument(tmp_path, caplog):
    path = tmp_path / 'recipe.py'
    path.write_text(RECIPE.replace('arg or 1', 'arg'))
    assert read_config(f'{path}:3').model.depth == 3
    assert not caplog.text


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        (
            'recipe.py',
            RECIPE.replace('config.steps', 'config.stpes'),
            "unknown config key 'stpes'; did you mean 'steps'",
        ),
        ('recipe.py', 'def get_config(arg=None', 'recipe.py: '),
        ('recipe.py', 'x = 1', 'recipe.py: .*get_config'),
        (
            'recipe.py',
            RECIPE.replace('config.steps = 100', "config.model.name = ['vit']"),
            'unknown model',
        ),
        ('recipe.py', 'def get_config(arg=None): return 1', 'returned int, not a ConfigDict'),
        ('config.json', '{"seed": ', 'config.json is not a config'),
        ('recipe.txt', '', 'a config is a Python file or a config.json'),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=message) as found:
        read_config(str(path))
    assert '\n' not in str(found.value)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match='no config file'):
        read_config('/nowhere/recipe.py:3')


@pytest.mark.parametrize(
    ('duration', 'steps'),
    [
        (None, None),
        (0, 0),
        (7, 7),
        ('7 steps', 7),
        ('1 step', 1),
        ('2 epochs', 20),
        ('0.5 epochs', 5),
        ('1 epoch', 10),
        ('250 examples', 2),
        ('1e3 examples', 10),
        ('1 examples', 1),
        ('0 epochs', 0),
        ('  2   epochs ', 20),
    ],
)
def test_durations(duration, steps):
    assert in_steps(duration, batch_size=100, epoch=1000) == steps


@pytest.mark.parametrize(
    'duration', ['', 'epoch', '2', '2 years', '-1 epochs', 'nan steps', 'inf steps', '2epochs']
)
def test_no_durations(duration):
    with pytest.raises(UserError, match=r'log\.every: .* is no duration'):
        in_steps(duration, batch_size=100, epoch=1000, key='log.every')


@pytest.mark.parametrize(
    ('length', 'steps'), [({'steps': 3}, 3), ({'epochs': 1.5}, 15), ({'examples': 450}, 4)]
)
def test_total_steps(length, steps):
    config = complete(recipe(**({'steps': None, 'batch_size': 100} | length)))
    assert total_steps(config, epoch=1000) == steps


# The file of an older run may lack a part that came later; any other file may hold anything.
def test_json_of_an_older_run_gets_the_missing_keys(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('{"steps": 1}')
    assert read_config(str(path)).steps == 1
    assert read_config(str(path)).log.every == 50


@pytest.mark.parametrize(
    ('text', 'message'),
    [('[1]', 'config.json is not a config'), ('{"steps": 1, "model": 3}', 'config.model has keys')],
)
def test_json_of_another_shape(tmp_path, text, message):
    path = tmp_path / 'config.json'
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_config(str(path))


def test_json_with_an_unknown_key(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(json.loads(recipe().to_json()) | {'sede': 3}))
    with pytest.raises(UserError, match="did you mean 'seed'"):
        read_config(str(path))


def test_another_name_for_a_complete_config_has_its_own_defaults():
    config = ml_collections.ConfigDict(complete(recipe()).to_dict())
    assert complete(config, {'model.name': 'large'}).model.depth == 24


@pytest.mark.parametrize(
    ('key', 'text'), [('seed', '{[]: 1}'), ('optimizer.learning_rate', '1e999')]
)
def test_odd_texts(key, text):
    with pytest.raises(UserError):
        complete(recipe(), {key: text})
