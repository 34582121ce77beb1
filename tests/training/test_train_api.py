"""`vitjax.train` and what it takes: objects, streams, models of any inputs."""

import json
import re

import grain
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

import vitjax
from vitjax.errors import Preempted, UserError
from vitjax.training.build import build_experiment

SIZES = dict(
    name='vit',
    image_size=8,
    patch_size=4,
    in_channels=1,
    width=16,
    depth=1,
    num_heads=2,
    mlp_dim=16,
)


def tiny(**changes):
    """A config of a tiny ViT on the digits, which trains three steps."""
    config = vitjax.base_config()
    config.model = SIZES
    config.batch_size = 8
    config.steps = 3
    config.data.eval_split = 'test[:20]'
    for key, value in changes.items():
        *path, name = key.split('__')
        part = config
        for word in path:
            part = part[word]
        part[name] = value
    return config


def records(run):
    return [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]


class Error(vitjax.Task):
    """Regression of the ink in an image."""

    def loss(self, model, variables, batch, *, rngs, train):
        outputs, state = self.apply(model, variables, batch['image'], rngs=rngs, train=train)
        return {'loss': jnp.square(outputs[:, 0] - batch['image'].mean((1, 2, 3)))}, state


class Two(nn.Module):
    """A model with two inputs, and nothing else that it says of itself."""

    rate: float = 0.1

    @nn.compact
    def __call__(self, image, question, deterministic=True):
        x = jnp.concatenate([image.reshape(len(image), -1), question], -1)
        x = nn.Dropout(self.rate, deterministic=deterministic)(nn.Dense(4)(x))
        return nn.Dense(1)(x)


class Answer(vitjax.Task):
    def loss(self, model, variables, batch, *, rngs, train):
        inputs = batch['image'], batch['question']
        outputs, state = self.apply(model, variables, *inputs, rngs=rngs, train=train)
        return {'loss': jnp.square(outputs[:, 0] - batch['answer'])}, state


def questions(count):
    rng = np.random.default_rng(0)
    return [
        {
            'image': rng.random((5, 7, 2)).astype(np.float32),
            'question': rng.normal(size=3),
            'answer': rng.random(),
        }
        for _ in range(count)
    ]


def test_the_base_config_trains(tmp_path):
    overrides = {
        'model.image_size': 32,
        'model.depth': 1,
        'steps': 1,
        'data.eval_split': 'test[:9]',
    }
    result = vitjax.train(vitjax.base_config(), tmp_path, overrides=overrides | {'batch_size': 4})
    assert result.experiment.model.num_classes == 10
    assert result.metrics['examples'] == 9
    assert vitjax.read_config(vitjax.base_config()).epochs == 1.0


def test_a_model_with_two_inputs_trains_saves_and_loads(tmp_path):
    data = {'train': questions(16), 'test': questions(5)}
    config = tiny(data__eval_split='test', data__mean=(0.0,), data__std=(1.0,))
    run = tmp_path / 'run'
    result = vitjax.train(config, run, model=Two(), task=Answer(), data=data)
    with pytest.raises(UserError, match='its model was given as an object'):
        vitjax.load(run)
    loaded = vitjax.load(run, model=Two())
    inputs = jnp.ones((2, 5, 7, 2)), jnp.ones((2, 3))
    expected = result.experiment.model.apply(result.variables, *inputs)
    np.testing.assert_array_equal(loaded.model.apply(loaded.variables, *inputs), expected)
    vitjax.save(loaded, tmp_path / 'saved')
    again = vitjax.load(tmp_path / 'saved', model=Two())
    np.testing.assert_array_equal(again.model.apply(again.variables, *inputs), expected)
    with pytest.raises(UserError, match='timm cannot hold a Two, only a ViT'):
        vitjax.save(loaded, tmp_path / 'timm', format='timm')
    assert json.loads((run / 'code.json').read_text())['objects'] == ['model', 'task', 'data']
    with pytest.raises(UserError, match='its task was given as an object'):
        vitjax.evaluate(run, model=Two(), data=data)
    found = vitjax.evaluate(run, model=Two(), task=Answer(), data=data)
    assert found == pytest.approx(result.metrics)


def stream():
    """Numbers that count up, as images."""
    source = grain.MapDataset.range(10**6)
    image = np.ones((8, 8, 1), np.float32)
    return source.map(lambda i: {'image': image * (i % 97) / 97}).to_iter_dataset()


def test_a_stream_is_trained_on_and_resumed_where_it_was(tmp_path):
    data = {'train': stream, 'test': [{'image': np.zeros((8, 8, 1), np.float32)}] * 3}
    config = tiny(model=SIZES | {'num_classes': 1}, steps=6, log__every=1, data__eval_split='test')
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    vitjax.train(config, whole, task=Error(), data=data)
    with pytest.raises(Preempted):
        vitjax.train(config, stopped, task=Error(), data=data, should_stop=lambda step: step == 3)
    vitjax.train(config, stopped, task=Error(), data=data)
    assert (whole / 'metrics.jsonl').read_bytes() == (stopped / 'metrics.jsonl').read_bytes()
    config.update(steps=None, epochs=1.0)
    with pytest.raises(UserError, match='a stream has no epochs'):
        vitjax.train(config, tmp_path / 'epochs', task=Error(), data=data)
    short = data | {'train': short_stream}
    config.update(steps=6, epochs=None)
    with pytest.raises(UserError, match='the stream of training examples ended after 20'):
        vitjax.train(config, tmp_path / 'short', task=Error(), data=short)


def short_stream():
    image = np.ones((8, 8, 1), np.float32)
    return grain.MapDataset.range(20).map(lambda i: {'image': image}).to_iter_dataset()


class Nested(nn.Module):
    """A ViT and a head of its own."""

    num_classes: int = 10
    image_size: int = 16
    in_channels: int = 1

    def setup(self):
        self.vit = vitjax.create_model(**SIZES | {'image_size': 16, 'num_classes': 0})
        self.head = nn.Dense(self.num_classes)

    def __call__(self, images, train=False):
        return self.head(self.vit(images, train=train))


def test_a_submodule_starts_from_other_weights(tmp_path):
    source = tmp_path / 'source'
    vitjax.train(tiny(), source)
    config = tiny(model__load={'vit': str(source)}, data__mean=(0.3,))
    config.model = {'load': {'vit': str(source)}}
    given = {'model': Nested()}
    experiment = vitjax.train(config, tmp_path / 'run', **given).experiment
    start = flatten_dict(experiment.starting_variables()['params']['vit'], sep='/')
    expected = vitjax.load(source, image_size=16, num_classes=0).variables['params']
    for path, value in flatten_dict(expected, sep='/').items():
        np.testing.assert_array_equal(start[path], value)
    config.model = {'load': {'vitt': str(source)}}
    with pytest.raises(UserError, match=r"config\.model\.load: 'vitt' is no submodule .* vit"):
        vitjax.train(config, tmp_path / 'wrong', **given)


def test_checkpoints_are_chosen_by_step_and_by_metric(tmp_path):
    config = tiny(steps=4, eval__every=1, checkpoint__every=1)
    config.checkpoint.update(keep=4, best='-loss')
    result = vitjax.train(config, tmp_path)
    losses = {row['step']: row['loss'] for row in records(tmp_path) if row['split'] != 'train'}
    best = min(losses, key=losses.get)
    assert vitjax.load(tmp_path).info['step'] == 4
    assert vitjax.load(tmp_path, step=2).info['step'] == 2
    assert vitjax.load(tmp_path, best='-loss').info['step'] == best
    assert vitjax.load(tmp_path, best=True).info['step'] == best
    assert vitjax.load(tmp_path, best='loss').info['step'] == max(losses, key=losses.get)
    assert vitjax.evaluate(tmp_path, step=2)['loss'] == pytest.approx(losses[2])
    for options, message in [
        ({'step': 9}, r'no checkpoint of step 9; there are: \[1, 2, 3, 4\]'),
        (
            {'best': 'bleu'},
            "no checkpoint has recorded 'bleu'; recorded are accuracy, examples, loss",
        ),
        ({'best': 'loss', 'step': 1}, 'give one of them'),
    ]:
        with pytest.raises(UserError, match=message):
            vitjax.load(tmp_path, **options)
    assert result.metrics['loss'] == pytest.approx(losses[4])


def test_evaluations_and_callbacks_given_as_objects(tmp_path):
    heard = []

    def callback(event):
        heard.append((event.kind, event.name, event.step))
        return {'seen': event.step} if event.kind == 'log' else None

    def brightness(event):
        found = [
            float(jnp.where(b['mask'], b['image'].mean((1, 2, 3)), 0).sum()) for b in event.batches
        ]
        return {'mean': sum(found) / 20, 'step': 3} if event.step < 0 else {'mean': sum(found) / 20}

    evals = {'bright': brightness, 'train_part': {'name': 'metrics', 'split': 'train[:7]'}}
    config = tiny(log__every=1, eval__batch_size=8)
    result = vitjax.train(config, tmp_path, evals=evals, callbacks=[callback])
    rows = records(tmp_path)
    assert [row['seen'] for row in rows if row['split'] == 'train'] == [1, 2, 3]
    assert heard[-2:] == [('checkpoint', 'checkpoint', 3), ('end', 'test[:20]', 3)]
    assert result.metrics['train_part/examples'] == 7
    pixels = np.stack([result.experiment.data.evaluation[i]['image'] for i in range(20)])
    assert result.metrics['bright/mean'] == pytest.approx(
        (pixels / 255 - 0.5).mean() / 0.5, abs=1e-5
    )


@pytest.mark.parametrize(
    ('callback', 'message'),
    [
        (lambda event: {'loss': 1.0}, "returned 'loss', which is measured already"),
        (lambda event: {'word': 'text'}, "word is 'text', not a number"),
    ],
)
def test_what_a_callback_may_not_return(callback, message, tmp_path):
    with pytest.raises(UserError, match=message):
        vitjax.train(tiny(), tmp_path, callbacks=[callback])


def test_some_steps_are_traced_and_predictions_drawn(tmp_path):
    config = tiny(callbacks={'predictions': {'count': 3}})
    config.log.profile = (2, 3)
    vitjax.train(config, tmp_path)
    assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
    assert (tmp_path / 'predictions/3.png').read_bytes().startswith(b'\x89PNG')


class Reserved(vitjax.Task):
    def transform(self, example, rng, *, augment, train):
        return augment(example, rng) | {'mask': np.ones(3)}

    loss = Error.loss


class NoLoss(vitjax.Task):
    def loss(self, model, variables, batch, *, rngs, train):
        return {'error': batch['image'].mean((1, 2, 3))}, {}


class WrongShape(vitjax.Task):
    def loss(self, model, variables, batch, *, rngs, train):
        return {'loss': batch['image'].mean((2, 3))}, {}


@pytest.mark.parametrize(
    ('task', 'message'),
    [
        (Reserved(), "it has the key 'mask', which marks the padding"),
        (NoLoss(), "NoLoss.loss must return a value called 'loss', not error"),
        (WrongShape(), r'WrongShape.loss: a loss or metric is an array \[B\] or a pair'),
    ],
)
def test_mistakes_in_a_task_are_one_line_and_leave_no_folder(task, message, tmp_path):
    with pytest.raises(UserError, match=message):
        vitjax.train(tiny(), tmp_path / 'run', task=task)
    assert not (tmp_path / 'run').exists()


def test_precision_needs_an_argument(tmp_path):
    config = tiny()
    config.precision.compute = 'bfloat16'
    config.model = {'name': f'{__name__}:Plain'}
    with pytest.raises(UserError, match='has no argument dtype'):
        build_experiment(vitjax.read_config(config))


class Plain(nn.Module):
    num_classes: int = 10

    def __call__(self, image):
        return image


class Flat(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, image):
        return nn.Dense(self.num_classes)(image.reshape(image.shape[0], -1))


def one_pixel(event):
    return {}


@pytest.mark.parametrize(
    ('objects', 'message'),
    [
        ({'model': Two}, 'model=Two is a class: give an instance'),
        ({'task': Error}, 'task=Error is a class: give an instance'),
        ({'task': 3}, 'task must be a vitjax.Task, not int'),
        ({'data': 3}, 'data must be {split: source}'),
        ({'optimizer': 'sgd'}, 'optimizer must be an optax transformation, not str'),
        ({'evals': [one_pixel]}, 'evals must be {name: callable}, not list'),
        ({'callbacks': {'a': one_pixel}}, 'callbacks must be a list'),
        ({'callbacks': [Error]}, 'callbacks must be a list of callables'),
    ],
)
def test_objects_of_the_wrong_kind_are_one_line(objects, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        vitjax.train(tiny(), tmp_path / 'run', **objects)
    assert not (tmp_path / 'run').exists()


def test_an_optimizer_object_has_its_own_learning_rate(tmp_path):
    """No rate of the config is recorded that is not used, and none is taken that has no effect."""
    with pytest.raises(UserError, match='learning_rate has no effect'):
        vitjax.train(
            tiny(),
            tmp_path / 'refused',
            optimizer=optax.sgd(0.01),
            overrides={'optimizer.learning_rate': 5.0},
        )
    vitjax.train(tiny(), tmp_path / 'run', optimizer=optax.sgd(0.01))
    rows = [row for row in records(tmp_path / 'run') if row['split'] == 'train']
    assert rows
    assert not any('learning_rate' in row for row in rows)


def test_a_run_that_goes_on_with_another_object_says_so(tmp_path, caplog):
    data = questions(24)
    objects = dict(task=Answer(), data={'train': data, 'test': data[:4]})
    config = tiny(model={'name': None}, data__eval_split='test')
    vitjax.train(config, tmp_path / 'run', model=Two(), **objects)
    caplog.clear()
    config.steps = 4
    vitjax.train(config, tmp_path / 'run', model=Two(rate=0.2), **objects)
    assert 'model was Two(' in caplog.text
    assert 'data given as objects' in caplog.text


def test_images_of_several_sizes_need_a_model_with_image_size(tmp_path):
    sizes = [(8, 8)] * 12 + [(7, 8)]
    examples = [{'image': np.zeros((*size, 1), np.uint8), 'label': 0} for size in sizes]
    with pytest.raises(UserError, match='its image is 7 x 8, but the first one is 8 x 8'):
        vitjax.train(
            tiny(data__eval_split='test'),
            tmp_path / 'run',
            model=Flat(),
            data={'train': examples, 'test': examples[:4]},
        )


def test_a_metric_that_is_not_finite_is_a_warning(tmp_path, caplog):
    vitjax.train(tiny(), tmp_path / 'run', evals={'odd': lambda event: {'score': float('nan')}})
    assert 'score of odd is not finite' in caplog.text


@pytest.mark.parametrize('part', ['evals', 'callbacks'])
def test_an_exception_of_a_users_code_keeps_its_type_and_names_its_part(part, tmp_path):
    def broken(event):
        raise KeyError('palce')

    objects = {'evals': {'broken': broken}} if part == 'evals' else {'callbacks': [broken]}
    with pytest.raises(KeyError) as error:
        vitjax.train(tiny(checkpoint__every=1), tmp_path / 'run', **objects)
    assert error.value.__notes__[-1] == f'in config.{part}.broken'
    vitjax.train(tiny(), tmp_path / 'run')  # goes on from what was saved, or anew
