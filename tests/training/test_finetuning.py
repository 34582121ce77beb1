"""Runs that start from weights which were trained elsewhere."""

import json
import shutil
import socket
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import vitjax as library
from vitjax.config import read_config
from vitjax.errors import Preempted, UserError
from vitjax.pretrained import runs
from vitjax.pretrained.layouts.base import Parts, parameter_shapes
from vitjax.pretrained.loading import assemble
from vitjax.training.build import build_experiment
from vitjax.training.evaluation import SplitEvaluator
from vitjax.training.loop import train
from vitjax.training.resolve import resolve

RECIPE = str(Path(__file__).parents[2] / 'configs/finetune.py')
VIT = dict(image_size=8, patch_size=4, in_channels=1, width=16, depth=2, num_heads=2, mlp_dim=32)
MAE = dict(VIT, decoder_width=8, decoder_depth=1, decoder_num_heads=2)
PREPROCESS = dict(mean=(0.25,), std=(0.75,), crop=0.9, interpolation='bilinear', squash=True)
SHORT = {'epochs': 'none', 'steps': '3', 'schedule.warmup': '0', 'eval.batch_size': '360'}


def folder(name, arguments, path):
    """A saved model with random weights."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(name, arguments)
    params = {k: rng.normal(size=shape).astype(np.float32) * 0.2 for k, shape in shapes.items()}
    library.save(assemble(Parts(name, arguments, params, PREPROCESS), source='', layout=''), path)
    return path


@pytest.fixture(scope='module')
def vit(tmp_path_factory):
    return folder('vit', VIT | {'num_classes': 5}, tmp_path_factory.mktemp('weights') / 'vit')


@pytest.fixture(scope='module')
def mae(tmp_path_factory):
    return folder('mae', MAE, tmp_path_factory.mktemp('weights') / 'mae')


def tuning(source, spec=RECIPE, **overrides):
    """A config that leaves nothing open."""
    return resolve(asked(source, spec, **overrides), needs_classes=True).config


def asked(source, spec=RECIPE, **overrides):
    """A config as it is read, which leaves to the weights what the recipe does."""
    return read_config(spec, SHORT | {'model.pretrained': str(source)} | overrides)


def started(experiment):
    return experiment.init_state(experiment.starting_variables())


def flat(variables):
    return flatten_dict(variables['params'], sep='/')


def test_the_weights_say_what_the_recipe_leaves_open(vit):
    config = tuning(vit)
    assert config.model.name == 'vit'
    assert {name: config.model[name] for name in VIT} == VIT
    assert config.model.num_classes == 10  # as many as there are digits
    assert {name: config.data[name] for name in PREPROCESS} == PREPROCESS


def test_reading_a_config_reads_no_weights():
    config = asked('nowhere')
    assert (config.model.name, config.model.num_classes, config.data.mean) == (None, None, None)


def test_weights_are_read_once(vit, monkeypatch):
    reads = []
    restore = runs.restore_variables
    monkeypatch.setattr(
        runs, 'restore_variables', lambda *args, **more: reads.append(1) or restore(*args, **more)
    )
    started(build_experiment(asked(vit, **{'model.image_size': '16'})))
    assert len(reads) == 1


def test_processes_find_each_other_before_weights_are_read(monkeypatch, command):
    class Found(Exception):
        pass

    def initialize(*_):
        raise Found

    monkeypatch.setattr(jax.distributed, 'initialize', initialize)
    weights = ['--config.model.pretrained=nowhere', '--workdir', 'nowhere']
    code, _, err = command('train', '--config', RECIPE, '--distributed', *weights)
    assert (code, 'Found' in err, 'no such file' in err) == (1, True, False)
    code, _, err = command('train', '--config', RECIPE, *weights)
    assert (code, 'no such file' in err) == (2, True)


@pytest.mark.slow
def test_a_process_of_several_starts_from_weights(vit, vitjax, tmp_path):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    code, _, err = vitjax(
        *('train', '--config', RECIPE, '--workdir', tmp_path, '--distributed'),
        *('--coordinator', address, '--num_processes', 1, '--process_id', 0),
        *(f'--config.{key}={value}' for key, value in SHORT.items()),
        f'--config.model.pretrained={vit}',
    )
    assert code == 0, err


def test_the_command_line_has_the_last_word(vit):
    said = {'model.drop_path': '0.1', 'model.num_classes': '7', 'data.interpolation': 'bicubic'}
    config = tuning(vit, **said, **{'model.image_size': '(8, 16)'})
    assert (config.model.drop_path, config.model.num_classes) == (0.1, 7)
    assert (config.model.image_size, config.data.interpolation) == ((8, 16), 'bicubic')
    assert config.data.squash


def test_a_run_starts_with_the_weights_and_a_new_head(vit):
    experiment = build_experiment(tuning(vit))
    start, expected = flat(started(experiment).variables), flat(library.load(vit).variables)
    assert start.keys() == expected.keys()
    for name, value in start.items():
        if name.startswith('head/'):
            assert value.shape[-1] == 10
            np.testing.assert_array_equal(value, 0)
        else:
            np.testing.assert_array_equal(value, expected[name])


def test_sizes_are_adapted_before_the_first_step(vit):
    config = tuning(vit, **{'model.image_size': '16', 'model.patch_size': '2'})
    start = flat(started(build_experiment(config)).variables)
    expected = flat(library.load(vit, image_size=16, patch_size=2, num_classes=10).variables)
    assert start['positions'].shape == (1, 65, 16)
    assert all(np.array_equal(start[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_of_a_masked_autoencoder_the_encoder_is_tuned(mae):
    config = tuning(mae)
    assert (config.model.name, config.model.pooling) == ('vit', 'mean')
    start = flat(started(build_experiment(config)).variables)
    encoder = library.load(mae)
    for name, value in flatten_dict(encoder.variables['params']['vit'], sep='/').items():
        np.testing.assert_array_equal(start[name], value)
    assert start.keys() - {'head/kernel', 'head/bias'} == {
        name.removeprefix('vit/') for name in flat(encoder.variables) if name.startswith('vit/')
    }
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 1)).astype(np.float32)
    tuned = library.load(mae, num_classes=3)
    tokens = tuned.model.apply(tuned.variables, images, method='features')['blocks'][-1]
    expected = encoder.model.apply(encoder.variables, images, method='features')['blocks'][-1]
    np.testing.assert_array_equal(tokens, expected)


@pytest.fixture(scope='module')
def tuned(vit, tmp_path_factory):
    """A finished run, and its weights, which are gone."""
    place = tmp_path_factory.mktemp('tuned')
    weights = shutil.copytree(vit, place / 'weights')
    config = tuning(weights)
    metrics = train(config, place / 'run').metrics
    with pytest.raises(Preempted):
        train(config, place / 'stopped', should_stop=lambda step: step == 2)
    shutil.rmtree(weights)
    return config, place, metrics


@pytest.mark.slow
def test_a_tuned_run_needs_its_origin_no_more(tuned):
    _, place, metrics = tuned
    run = place / 'run'
    assert json.loads((run / 'config.json').read_text())['model']['width'] == 16
    again = read_config(str(run / 'config.json'))
    loaded = library.load(run)
    assert SplitEvaluator(build_experiment(again))(loaded.variables) == pytest.approx(metrics)
    assert loaded.preprocess == build_experiment(again).data.preprocess
    assert loaded.preprocess.facts == PREPROCESS
    library.save(loaded, place / 'saved')
    assert library.load(place / 'saved').model == loaded.model


def test_evaluated_at_step_0_it_is_what_it_was(tuned):
    _, place, metrics = tuned
    experiment = build_experiment(tuning(place / 'run'))
    assert SplitEvaluator(experiment)(started(experiment).variables) == pytest.approx(metrics)


def test_resumed_a_run_goes_on_with_its_own_weights(tuned):
    config, place, metrics = tuned
    assert train(config, place / 'stopped').metrics == metrics
    records = [(place / name / 'metrics.jsonl').read_bytes() for name in ('run', 'stopped')]
    assert records[0] == records[1]


def test_resumed_a_run_needs_its_origin_no_more(tuned):
    config, place, _ = tuned
    said = SHORT | {'model.pretrained': config.model.pretrained}
    assert not Path(config.model.pretrained).exists()

    def resolved(overrides, run):
        return resolve(read_config(RECIPE, overrides), run=run, needs_classes=True).config

    with pytest.raises(UserError, match='no such file or folder'):
        resolved(said, place / 'new')
    assert resolved(said, place / 'run').to_dict() == config.to_dict()
    # What is said anew counts, and another model is not the run's.
    again = resolved(said | {'model.drop_path': '0.5', 'data.crop': '0.5'}, place / 'run')
    assert (again.model.drop_path, again.data.crop, again.data.squash) == (0.5, 0.5, True)
    with pytest.raises(UserError, match='no such file or folder'):
        resolved(said | {'model.name': 'vit_ti16'}, place / 'run')


def test_weights_that_do_not_fit_leave_no_folder(vit, tmp_path):
    with pytest.raises(UserError, match='register_tokens is missing in the checkpoint'):
        train(tuning(vit, **{'model.num_registers': '2'}), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_any_recipe_may_leave_the_model_to_the_weights(vit, recipe):
    said = {'model.name': 'none', 'model.pretrained': str(vit), 'model.num_classes': '10'}
    model = resolve(read_config(str(recipe), said)).config.model
    # What the recipe chooses stays, such as drop_path.
    assert (model.name, model.mlp_dim, model.drop_path) == ('vit', 32, 0.2)
    with pytest.raises(UserError, match='say which weights to start from'):
        resolve(read_config(str(recipe), {'model.name': 'none'}))


@pytest.mark.slow
def test_a_linear_probe_changes_only_the_head(vit, tmp_path):
    config = tuning(vit, f'{RECIPE}:linear_probe')
    train(config, tmp_path / 'run')
    before, after = (
        flat(library.load(vit).variables),
        flat(library.load(tmp_path / 'run').variables),
    )
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert changed == {'head/kernel', 'head/bias'}


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'model.pretrained': 'none'}, 'say which weights to start from'),
        ({'model.pretrained': 'nowhere'}, 'nowhere: no such file or folder'),
        ({'model.depht': '3'}, "unknown key of config.model 'depht'; did you mean 'depth'?"),
        ({'task.name': 'masked_autoencoding'}, 'takes a model such as mae_b16, not a ViT'),
        ({'model.patch_size': '3'}, 'patch height 3 does not divide image height 8'),
        ({'model.name': 'transformer_tiny'}, 'transformer_tiny takes no images'),
    ],
)
def test_mistakes(vit, overrides, message):
    with pytest.raises(UserError, match=message.replace('?', r'\?')):
        build_experiment(tuning(vit, **overrides))


def test_weights_that_do_not_fit_are_named(vit):
    with pytest.raises(UserError, match=r'out/bias is \(2, 16\) in the checkpoint, \(3, 16\)'):
        started(build_experiment(tuning(vit, **{'model.depth': '3'})))


def test_nothing_is_left_open_without_weights(recipe):
    with pytest.raises(UserError, match='may be None only with'):
        resolve(read_config(str(recipe), {'data.mean': 'none'}))
