import contextlib
import io
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from callback_events import make_event
from flax import linen as nn
from jax.sharding import Mesh
from PIL import Image

from vitjax.callbacks import Predictions, predictions
from vitjax.data.arrays import Arrays
from vitjax.data.images import EncodedImage
from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError

pytest.importorskip('matplotlib')

NAMES = ('zero', 'one', 'two')


class Brightness(nn.Module):
    """Class 0, 1 or 2 by the mean of normalised pixels."""

    shape: tuple[int, ...] = ()

    def __call__(self, images):
        level = images.mean(axis=(1, 2, 3))  # [B], -1, 0 or 1
        logits = -4.0 * (level[:, None] - jnp.array([-1.0, 0.0, 1.0])) ** 2
        return logits.reshape(*logits.shape, *self.shape)


def images_of(levels, channels=1):
    return np.stack([np.full((8, 8, channels), level, np.uint8) for level in levels])


def experiment_of(source, *, model=None, labels=NAMES, channels=1):
    preprocess = Preprocess((8, 8), channels, 1.0, (0.5,), (0.5,))
    return types.SimpleNamespace(
        model=model or Brightness(),
        mesh=Mesh(np.array(jax.devices()).reshape(-1, 1, 1), ('data', 'fsdp', 'tensor')),
        context=contextlib.nullcontext,
        data=types.SimpleNamespace(evaluation=source, preprocess=preprocess, labels=labels),
    )


@pytest.fixture
def source():
    """Six images, of which the last two have a wrong label."""
    images = images_of([0, 128, 255, 0, 128, 255])
    return Arrays('levels', images, np.array([0, 1, 2, 0, 2, 0]), NAMES)


@pytest.fixture
def titles(monkeypatch):
    """The titles and colours of each picture that was drawn, as it is."""
    drawn = []

    def spy(width, height):
        drawn.append(figure := predictions_figure(width, height))
        return figure

    predictions_figure = predictions.new_figure
    monkeypatch.setattr(predictions, 'new_figure', spy)

    def read():
        return [
            [(a.get_title(), a.title.get_color()) for a in figure.axes if a.get_title()]
            for figure in drawn
            if figure.axes
        ]

    return read


def evaluate(callback, experiment, workdir, step=1, name='test', kind='eval'):
    callback(make_event(workdir, kind, step, name, variables={}, experiment=experiment))


def test_picture_shows_predicted_and_true_labels(source, titles, tmp_path):
    evaluate(Predictions(count=5), experiment_of(source), tmp_path, step=30)
    (drawn,) = titles()
    assert [colour for _, colour in drawn] == ['black'] * 4 + ['tab:red']
    assert [title.split(' ')[0] for title, _ in drawn] == ['zero', 'one', 'two', 'zero', 'one']
    assert [title.split('true: ')[1] for title, _ in drawn] == ['zero', 'one', 'two', 'zero', 'two']
    probability = 1 / (1 + np.exp(-4.0) + np.exp(-16.0))
    assert f'zero ({probability:.0%})' in drawn[0][0]
    with Image.open(tmp_path / 'predictions' / '30.png') as picture:
        assert picture.format == 'PNG'
        assert min(picture.size) > 100
    assert [path.name for path in (tmp_path / 'predictions').iterdir()] == ['30.png']


def test_only_main_evaluations_of_the_period_are_drawn(source, tmp_path):
    callback, experiment = Predictions(every=10), experiment_of(source)
    evaluate(callback, experiment, tmp_path, step=10)
    evaluate(callback, experiment, tmp_path, step=15)
    evaluate(callback, experiment, tmp_path, step=20, name='knn')
    evaluate(callback, experiment, tmp_path, step=30, name='train', kind='log')
    evaluate(callback, experiment, tmp_path, step=40, name='test', kind='end')
    evaluate(callback, experiment, tmp_path, step=50)
    names = sorted(path.name for path in (tmp_path / 'predictions').iterdir())
    assert names == ['10.png', '50.png']


def test_model_is_compiled_once_and_takes_new_variables(source, titles, tmp_path):
    traces = []

    class Shifted(nn.Module):
        @nn.compact
        def __call__(self, images):
            traces.append(images.shape)
            return Brightness()(images + self.variable('params', 'shift', lambda: 0.0).value)

    callback = Predictions(count=1)
    experiment = experiment_of(source, model=Shifted())
    for step, shift in enumerate((0.0, 1.0)):
        variables = {'params': {'shift': jnp.float32(shift)}}
        more = {'experiment': experiment, 'variables': variables}
        callback(make_event(tmp_path, 'eval', step, 'test', **more))
    assert [drawn[0][0].split(' ')[0] for drawn in titles()] == ['zero', 'one']
    assert len(traces) == 1


def test_encoded_images_and_unreadable_ones(titles, tmp_path):
    Image.fromarray(images_of([255], 3)[0]).save(file := io.BytesIO(), 'png')
    encoded = [EncodedImage(b'broken', 'broken.png'), EncodedImage(file.getvalue(), 'good.png')]

    class Files(list):
        name = 'files'

    source = Files({'image': image, 'label': label} for label, image in enumerate(encoded))
    experiment = experiment_of(source, channels=3, labels=None)
    evaluate(Predictions(), experiment, tmp_path)
    ((title, _),) = titles()[0]
    assert title.startswith('2 (')
    assert title.endswith('true: 1')


def test_long_names_and_dollars_are_drawn_as_text(source, titles, tmp_path):
    names = ('great white shark, white shark, man-eater', 'a $5 bill and $', 'c')
    evaluate(Predictions(count=2), experiment_of(source, labels=names), tmp_path)
    (shark, _), (bill, _) = titles()[0]
    assert shark.startswith('great white shark,...')
    assert bill.startswith(r'a \$5 bill and \$')


def test_other_processes_compute_but_write_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    evaluate(Predictions(), experiment_of(source), tmp_path)
    assert not any(tmp_path.iterdir())


def test_model_without_logits_is_refused(source, tmp_path):
    experiment = experiment_of(source, model=Brightness(shape=(1, 1)))
    with pytest.raises(UserError, match=r'needs a model of logits \[B, K\], not Brightness'):
        evaluate(Predictions(), experiment, tmp_path)


@pytest.mark.parametrize('arguments', [{'count': 0}, {'every': 0}])
def test_arguments_are_checked(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        Predictions(**arguments)
