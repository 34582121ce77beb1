import dataclasses
import functools
import json
import re
import shutil

import jax
import numpy as np
import pytest

import vitjax as library
from vitjax.config import read_config
from vitjax.data.sources import open_source
from vitjax.errors import UserError
from vitjax.training.loop import train


@pytest.fixture(scope='module')
def run_of(recipe, tmp_path_factory):
    """Name of a model -> the folder of a finished run."""

    @functools.cache
    def run(model):
        workdir = tmp_path_factory.mktemp(model)
        train(read_config(f'{recipe}:{model}'), workdir)
        return workdir

    return run


@pytest.fixture
def run(run_of):
    return run_of('vit')


MODELS = pytest.mark.parametrize('model', ['vit', 'cnn'])


def accuracy(pretrained):
    source = open_source('digits', 'test')
    examples = [source[index] for index in range(len(source))]
    images = pretrained.preprocess([example['image'] for example in examples])
    logits = jax.jit(pretrained.model.apply)(pretrained.variables, images)
    return np.mean(logits.argmax(-1) == np.array([example['label'] for example in examples]))


@pytest.mark.slow
@MODELS
def test_a_loaded_run_is_what_was_evaluated(run_of, model):
    run = run_of(model)
    recorded = json.loads((run / 'metrics.jsonl').read_text().splitlines()[-1])
    pretrained = library.load(run)
    assert accuracy(pretrained) == pytest.approx(recorded['accuracy'])
    assert pretrained.labels == tuple('0123456789')
    assert pretrained.info['step'] == 20


@MODELS
def test_save_and_load_is_exact(run_of, model, tmp_path):
    changes = {'scan': True} if model == 'vit' else {'dropout': 0.1}
    pretrained = library.load(run_of(model), **changes)
    library.save(pretrained, tmp_path / 'saved')
    again = library.load(tmp_path / 'saved')
    assert again.model == pretrained.model
    assert again.preprocess == pretrained.preprocess
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, pretrained.variables))
    with pytest.raises(UserError, match='not an empty folder'):
        library.save(pretrained, tmp_path / 'saved')
    with pytest.raises(UserError, match='unknown format'):
        library.save(pretrained, tmp_path / 'other', format='timn')


def test_what_is_saved_is_evaluated_as_it_was_preprocessed(run, tmp_path):
    said = {'mean': (0.1,), 'std': (0.2,), 'crop': 0.9, 'interpolation': 'box', 'squash': True}
    library.save(library.load(run, **said), tmp_path / 'saved')
    config = read_config(str(tmp_path / 'saved' / 'config.json'))
    assert {name: config.data[name] for name in said} == said
    assert library.load(tmp_path / 'saved').preprocess.facts == said


def test_what_preprocess_takes(run, tmp_path):
    preprocess = library.load(run).preprocess
    pixels = open_source('digits', 'test')[0]['image']
    expected = preprocess(pixels)
    assert expected.shape == (1, 8, 8, 1)
    for several in ([pixels, pixels], np.stack([pixels, pixels])):
        np.testing.assert_array_equal(preprocess(several), np.concatenate([expected, expected]))
    path = next((run / 'examples').iterdir())
    for one in (path, str(path), path.read_bytes(), pixels[..., 0]):
        np.testing.assert_array_equal(preprocess(one), expected)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda run: (run / 'config.json').unlink(), 'has no config.json'),
        (lambda run: (run / 'config.json').write_text('{'), 'is not a config'),
        (lambda run: (run / 'config.json').write_text('{}'), 'give exactly one of config.steps'),
        (lambda run: (run / 'preprocess.json').write_text('{"crop": 1}'), 'is damaged'),
        (
            lambda run: (run / 'preprocess.json').write_text(
                (run / 'preprocess.json').read_text().replace('"crop": 1.0', '"crop": 2')
            ),
            'preprocess.json is damaged: crop must be above 0 and at most 1, not 2',
        ),
        (lambda run: (run / 'labels.json').write_text('"abc"'), 'labels.json is damaged'),
        (lambda run: (run / 'origin.json').write_text('[]'), 'origin.json is damaged'),
        (lambda run: shutil.rmtree(run / 'checkpoints'), 'no checkpoint'),
    ],
)
def test_a_damaged_run_is_one_line(run, tmp_path, damage, message):
    copy = shutil.copytree(run, tmp_path / 'run')
    damage(copy)
    with pytest.raises(UserError, match=message) as error:
        library.load(copy)
    assert '\n' not in str(error.value)


@pytest.mark.slow
def test_switches_and_sizes_at_loading(run, tmp_path):
    narrow = library.load(run, dtype='bfloat16', remat=True)
    library.save(narrow, tmp_path / 'narrow')
    assert library.load(tmp_path / 'narrow').model == narrow.model
    assert hash(narrow.model)
    wide = library.load(run, image_size=(16, 8))
    assert wide.model.apply(wide.variables, wide.preprocess(np.zeros((9, 9), np.uint8))).shape == (
        1,
        10,
    )


def test_weights_that_do_not_fit_are_named(run):
    with pytest.raises(UserError, match=r'out/bias is \(2, 16\) in the checkpoint, \(2, 32\)'):
        library.load(run, width=32)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'dtype': 'foo'}, "dtype is 'float32' or 'bfloat16', not 'foo'"),
        ({'dtype': np.int32}, "dtype is 'float32' or 'bfloat16', not 'int32'"),
        ({'crop': 2.0}, 'crop must be above 0 and at most 1, not 2.0'),
        ({'mean': 'gray'}, 'could not convert string to float'),
        ({'interpolation': 'cubic'}, "unknown interpolation 'cubic'; did you mean 'bicubic'"),
    ],
)
def test_what_the_caller_says_wrongly(run, overrides, message):
    with pytest.raises(UserError, match=re.escape(message)):
        library.load(run, **overrides)


def test_a_number_for_all_channels(run):
    assert library.load(run, mean=0.25).preprocess.mean == (0.25,)


def test_weights_alone_have_no_checkpoints_to_average(run, tmp_path):
    library.save(library.load(run), tmp_path / 'x.npz', format='google')
    with pytest.raises(UserError, match='no run: there are no 5 checkpoints to average'):
        library.load(tmp_path / 'x.npz', average=5)


@pytest.mark.slow
def test_sentences_have_no_mean(translator):
    with pytest.raises(UserError, match='a model of sentences, which has no mean'):
        library.load(translator, mean=(0.5,))


def test_a_model_that_its_config_does_not_describe_is_not_written(run, tmp_path):
    pretrained = library.load(run)
    other = dataclasses.replace(pretrained, model=pretrained.model.clone(width=32))
    with pytest.raises(UserError, match='its width is 32, and what would be written reads as 16'):
        library.save(other, tmp_path / 'other')
    assert not (tmp_path / 'other').exists()
