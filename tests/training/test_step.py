import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.config import read_config
from vitjax.training.build import build_experiment
from vitjax.training.sharding import to_devices


def build(recipe, model='vit', **overrides):
    """An experiment from the tiny recipe, for a ViT or a CNN, and overrides."""
    quiet = {'model.drop_path': '0'} if model == 'vit' else {}
    overrides = {'log.every': '1'} | {
        key.replace('__', '.'): str(value) for key, value in overrides.items()
    }
    return build_experiment(read_config(f'{recipe}:{model}', quiet | overrides))


@pytest.fixture(scope='module')
def experiment(recipe):
    """Builds an experiment, each once."""
    return functools.cache(functools.partial(build, recipe))


@functools.cache
def compiled(experiment):
    """The state before the first step, and the step."""
    return experiment.init_state(), experiment.train_step()


def run(experiment, steps=3, change=lambda step, batch: batch):
    """The state and the values of each step."""
    initial, step = compiled(experiment)
    state = jax.tree.map(jnp.copy, initial)  # the step takes it over
    batches = iter(experiment.data.train_batches(16, (0, 1)))
    values = []
    with experiment.context():
        for number in range(steps):
            batch = to_devices(change(number, next(batches)), experiment.mesh)
            state, value = step(state, batch)
            values.append(jax.device_get(value))
    return state, values


def distance(one, other):
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one, other)))


@pytest.mark.slow
def test_moments_are_updated_in_place(experiment):
    built = experiment(optimizer__name='adamw')
    with built.context():
        lowered = built.train_step().lower(built.abstract_state, built.abstract_batch())
    copies = [line for line in lowered.compile().as_text().splitlines() if ' copy(' in line]
    assert copies  # else they are written otherwise, and this test sees nothing
    assert not [line for line in copies if 'opt_state' in line]


@pytest.mark.slow
def test_micro_batches_learn_what_one_batch_does(experiment):
    whole, _ = run(experiment(optimizer__name='sgd'))
    parts, _ = run(experiment(optimizer__name='sgd', optimizer__accumulate=4))
    assert distance(whole.params, parts.params) < 1e-6


def test_micro_batches_weigh_examples_not_batches(experiment):
    def half(step, batch):
        # Micro-batch k holds rows k, k + 4 ...: one of them is all masked, the others are not.
        batch['mask'] = batch['mask'] & (np.arange(16) % 4 != 1) & (np.arange(16) > 2)
        return batch

    whole, _ = run(experiment(optimizer__name='sgd'), change=half)
    parts, _ = run(experiment(optimizer__name='sgd', optimizer__accumulate=4), change=half)
    assert distance(whole.params, parts.params) < 1e-6


@pytest.mark.slow
def test_each_micro_batch_moves_the_statistics_of_batch_norm(experiment):
    def alike(step, batch):
        # Each micro-batch is rows 0 to 3, so that its statistics are those of the whole batch.
        return {name: np.repeat(value[:4], 4, axis=0) for name, value in batch.items()}

    options = {'model': 'cnn', 'optimizer__name': 'sgd', 'optimizer__ema': None}
    before = compiled(experiment(**options))[0].model_state
    whole, _ = run(experiment(**options), steps=1, change=alike)
    parts, _ = run(experiment(**options, optimizer__accumulate=4), steps=1, change=alike)
    assert distance(whole.params, parts.params) < 1e-6
    once, often = (jax.tree.map(jnp.subtract, x.model_state, before) for x in (whole, parts))
    assert min(float(jnp.abs(leaf).min()) for leaf in jax.tree.leaves(once)) > 1e-5
    steps = 1 + 0.9 + 0.9**2 + 0.9**3
    assert distance(jax.tree.map(lambda x: steps * x, once), often) < 1e-5


def test_masked_examples_count_for_nothing(experiment):
    def scramble(step, batch):
        batch['mask'] = np.arange(16) < 10
        batch['image'] = np.where(batch['mask'][:, None, None, None], batch['image'], step * 50)
        batch['label'] = np.where(batch['mask'], batch['label'], step)
        return batch

    def blank(step, batch):
        batch = scramble(step, batch)
        batch['image'] = batch['image'] * batch['mask'][:, None, None, None].astype(np.uint8)
        batch['label'] = batch['label'] * batch['mask']
        return batch

    one, values = run(experiment(), change=scramble)
    other, _ = run(experiment(), change=blank)
    assert distance(one.params, other.params) == 0
    assert values[-1]['skipped_examples'] == 18


def test_an_update_that_is_not_finite_is_left_out(recipe, monkeypatch):
    built = build(recipe)
    normalise = type(built.data).on_device
    broken = {-1: np.nan, -2: np.inf}  # labels that stand for images that make the loss not finite

    def on_device(self, batch):
        batch = normalise(self, batch)
        for label, value in broken.items():
            spoilt = batch['label'] == label
            image = jnp.where(spoilt[:, None, None, None], value, batch['image'])
            batch = batch | {'image': image}
        return batch

    monkeypatch.setattr(type(built.data), 'on_device', on_device)
    before, _ = run(built, steps=1)
    for label in broken:

        def spoil(step, batch, label=label):
            if step == 1:
                batch['label'] = np.full_like(batch['label'], label)
            return batch

        after, values = run(built, steps=2, change=spoil)
        assert distance(before.params, after.params) == 0
        assert distance(before.opt_state, after.opt_state) == 0
        assert values[-1]['first_nonfinite'] == 2
        assert values[-1]['skipped_updates'] == 1
        assert np.isnan(values[-1]['loss'])  # nothing was counted since the last log


@pytest.mark.slow
def test_the_log_is_the_mean_since_the_last_one(experiment):
    _, each = run(experiment(log__every=1), steps=4)
    _, pairs = run(experiment(log__every=2), steps=4)
    for name in ('loss', 'accuracy', 'gradient_norm', 'learning_rate'):
        means = [np.mean([each[i][name], each[i + 1][name]]) for i in (0, 2)]
        np.testing.assert_allclose([pairs[1][name], pairs[3][name]], means, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'names'), [('vit', []), ('cnn', ['batch_stats'])])
def test_averages_follow(experiment, model, names):
    """The first step's decay is 1 / 10, of parameters and statistics alike."""
    built = experiment(model, optimizer__ema=0.9, optimizer__learning_rate=0.1)
    before = compiled(built)[0].variables
    state, _ = run(built, steps=1)
    newest = {'params': state.params, **state.model_state}
    expected = jax.tree.map(lambda old, new: old / 10 + new * 9 / 10, before, newest)
    assert list(state.variables) == ['params', *names]
    assert distance(state.variables, expected) < 1e-6
    assert all(distance(state.variables[part], newest[part]) > 1e-3 for part in newest)


@pytest.mark.slow
@pytest.mark.parametrize('model', ['vit', 'cnn'])
def test_without_averages_the_newest_is_used(experiment, model):
    state = experiment(model, optimizer__ema=None).init_state()
    assert (state.averaged, state.averaged_state) == ({}, {})
    newest = {'params': state.params, **state.model_state}
    assert distance(state.variables, newest) == 0


@pytest.mark.slow
def test_bfloat16_computes_close_and_keeps_float32(experiment):
    wide, exact = run(experiment(), steps=3)
    state, values = run(experiment(precision__compute='bfloat16'), steps=3)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state))}
    assert kinds <= {jnp.dtype('float32'), jnp.dtype('int32')}
    np.testing.assert_allclose(values[-1]['loss'], exact[-1]['loss'], rtol=2e-2)
    assert distance(wide.params, state.params) > 0


def test_frozen_parameters_stay(experiment):
    built = experiment(optimizer__frozen="('encoder/',)")
    initial = compiled(built)[0].params
    state, _ = run(built)
    assert distance(initial['encoder'], state.params['encoder']) == 0
    assert distance(initial['head'], state.params['head']) > 0
