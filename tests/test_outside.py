"""A researcher's own package: every part of a run kept outside of vitjax, and used in fresh processes."""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest

from vitjax.errors import UserError

PARTS = '''
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

import vitjax


class Mixer(nn.Module):
    """Has neither image_size nor dtype; Flax's own `deterministic`, and a required argument."""

    widths: Sequence[int]
    outputs: int | None = 1
    activation: Literal['relu', 'tanh'] = 'relu'
    dropout: float = 0.1

    @nn.compact
    def __call__(self, image, deterministic: bool = True):
        x = image.reshape(len(image), -1)
        for width in self.widths:
            x = getattr(nn, self.activation)(nn.Dense(width)(x))
            x = nn.Dropout(self.dropout, deterministic=deterministic)(x)
        return nn.Dense(self.outputs)(x)

    def features(self, image, *, attention=False, train=False):
        return {'pooled': image.reshape(len(image), -1)}


class Digits:
    """A source without name and labels: float images, and how much ink there is in each."""

    def __init__(self, images, labels):
        self.images, self.labels_of = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return {'image': image, 'label': int(self.labels_of[index]), 'ink': float(image.mean())}


def digits(count: int = 200):
    data = load_digits()
    images = np.float32(data.images / 16)[..., None]
    return {
        'train': lambda: Digits(images[:count], data.target[:count]),
        'test': Digits(images[count : count + 50], data.target[count : count + 50]),
    }


@dataclasses.dataclass(frozen=True)
class Ink(vitjax.Task):
    """Regression, with a metric."""

    power: float = 2.0

    def loss(self, model, variables, batch, *, rngs, train):
        outputs, state = self.apply(model, variables, batch['image'], rngs=rngs, train=train)
        error = jnp.abs(outputs[:, 0] - batch['ink'])
        return {'loss': error**self.power, 'absolute_error': error}, state

    def predict(self, outputs):
        return {'ink': outputs[:, 0]}


def darker(example, rng, most: float = 0.0):
    scale = np.float32(1 - most * rng.random())
    return example | {'image': example['image'] * scale, 'ink': example['ink'] * scale}


@dataclasses.dataclass
class Count:
    """An evaluator."""

    times: int = 1

    def __call__(self, event):
        examples = sum(float(batch['mask'].sum()) for batch in event.batches)
        return {'examples': examples * self.times, 'at': event.step}


def sgd(learning_rate, momentum: float = 0.9):
    return optax.sgd(learning_rate, momentum)


class Heard:
    """A callback."""

    def __call__(self, event):
        with open(event.workdir / 'heard.txt', 'a') as file:
            print(event.kind, event.name, event.step, file=file)
        return {'heard': 1.0} if event.kind == 'eval' else None
'''
RECIPE = """
from vitjax.config import base_config

def get_config(arg=None):
    config = base_config()
    config.model = {'name': 'parts:Mixer', 'widths': (16,)}
    config.task.name = 'parts:Ink'
    config.data.update(name='parts:digits', count=160, mean=(0.0,), std=(1.0,))
    config.augment = {'name': 'parts:darker', 'most': 0.5}
    config.optimizer.update(name='parts:sgd', learning_rate=0.05, momentum=0.8, ema=0.9)
    config.schedule.warmup = 2
    config.evals = {'count': {'name': 'parts:Count', 'times': 2, 'every': 10}, 'knn': {'k': 5}}
    config.callbacks = {'heard': {'name': 'parts:Heard'}}
    config.checkpoint.update(every=5, best='count/examples')
    config.batch_size = 16
    config.steps = 40
    config.eval.update(every=20, batch_size=32)
    config.log.every = 5
    return config
"""


@pytest.fixture(scope='module')
def outside(tmp_path_factory):
    """The folder of the package, and another one where nothing is."""
    folder = tmp_path_factory.mktemp('research')
    (folder / 'parts.py').write_text(PARTS)
    (folder / 'recipe.py').write_text(RECIPE)
    return folder, tmp_path_factory.mktemp('elsewhere')


def records(run):
    return [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def runs(outside, vitjax, start):
    """A run that was killed and resumed by the same command, and one that was not."""
    folder, elsewhere = outside
    whole, killed = elsewhere / 'whole', elsewhere / 'killed'
    command = ('train', '--config', folder / 'recipe.py', '--workdir')
    code, out, err = vitjax(*command, whole, cwd=elsewhere)
    assert code == 0, err
    assert f'next: vitjax predict --checkpoint {whole}' in out or 'next: vitjax eval' in out
    process = start(*command, killed, cwd=elsewhere)
    deadline = time.monotonic() + 120
    while not (killed / 'checkpoints/5').exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    code, out, err = vitjax(*command, killed, cwd=elsewhere)
    assert code == 0, err
    return whole, killed


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_the_same_command(runs):
    whole, killed = runs
    rows = records(whole)
    assert [row['step'] for row in rows if row['split'] == 'count'] == [10, 20, 30, 40]
    assert all(row['examples'] == 100 for row in rows if row['split'] == 'count')
    assert all(row['heard'] == 1.0 for row in rows if row['split'] in ('test', 'count', 'knn'))
    assert rows[-1]['split'] == 'knn'
    losses = [row['loss'] for row in rows if row['split'] == 'test']
    assert losses[-1] < losses[0]
    assert (killed / 'metrics.jsonl').read_bytes() == (whole / 'metrics.jsonl').read_bytes()
    code = json.loads((whole / 'code.json').read_text())
    assert code['names']['model.name'] == 'parts:Mixer'
    assert code['names']['evals.count.name'] == 'parts:Count'
    assert code['modules'].keys() == {'parts'}
    assert 'end test 40' in (whole / 'heard.txt').read_text()


@pytest.mark.slow
def test_a_run_is_used_in_fresh_processes_from_another_folder(runs, vitjax, outside, tmp_path):
    whole, _ = runs
    last = [row for row in records(whole) if row['split'] == 'test'][-1]
    code, out, err = vitjax('eval', '--workdir', whole, cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)['loss'] == pytest.approx(last['loss'], rel=1e-6)
    code, out, err = vitjax('eval', '--workdir', whole, '--evals', 'count,knn', cwd=tmp_path)
    assert code == 0, err
    count, knn = map(json.loads, out.splitlines())
    assert (count['split'], count['examples'], knn['split']) == ('count', 100, 'knn')
    image = tmp_path / 'black.png'
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    code, out, err = vitjax('predict', '--checkpoint', whole, image, '--json', cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out).keys() == {'image', 'ink'}
    # In this process, too, where the module was never imported.
    import vitjax as library

    pretrained = library.load(whole)
    assert type(pretrained.model).__name__ == 'Mixer'
    assert pretrained.preprocess.image_size == (8, 8)
    library.save(pretrained, tmp_path / 'saved')
    again = library.load(tmp_path / 'saved')
    images = np.zeros((1, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(
        *(p.model.apply(p.variables, images) for p in (pretrained, again))
    )


@pytest.mark.slow
def test_a_run_of_the_hub_imports_no_code_unless_it_is_allowed(runs, outside, monkeypatch):
    import vitjax as library

    monkeypatch.setattr('vitjax.pretrained.loading.snapshot', lambda source: runs[0])
    with pytest.raises(
        UserError, match="hf:some/one names code that is not part of vitjax, 'parts:"
    ):
        library.load('hf:some/one')
    assert type(library.load('hf:some/one', allow_code=True).model).__name__ == 'Mixer'


@pytest.mark.slow
def test_eight_devices_evaluate_and_learn_what_one_does(runs, outside, vitjax, tmp_path):
    folder, elsewhere = outside
    command = ('train', '--config', folder / 'recipe.py', '--workdir', tmp_path / 'run')
    code, _, err = vitjax(*command, devices=8, cwd=elsewhere)
    assert code == 0, err
    found, expected = records(tmp_path / 'run'), records(runs[0])
    assert [(row['split'], row['step']) for row in found] == [
        (row['split'], row['step']) for row in expected
    ]
    for row, other in zip(found, expected, strict=True):
        assert row.pop('split') == other.pop('split')
        assert row == pytest.approx(other, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (
            lambda folder: (folder / 'parts.py').unlink(),
            r"no module 'parts', which .* was trained with",
        ),
        (
            lambda folder: (folder / 'parts.py').write_text('import nothing_like_it'),
            "parts.py, line 1: ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        (lambda folder: (folder / 'parts.py').write_text('x = ('), 'parts.py, line 1: SyntaxError'),
        (
            lambda folder: (folder / 'parts.py').write_text('class Mixed: pass'),
            "parts.py: unknown attribute 'Ink'; known: Mixed",
        ),
        (
            lambda folder: (folder / 'parts.py').write_text('Mixer = Ink = digits = 3'),
            'is not a (model|task|data set)',
        ),
    ],
)
def test_code_that_is_gone_is_one_line(runs, outside, vitjax, tmp_path, damage, message):

    folder = shutil.copytree(outside[0], tmp_path / 'research')
    run = shutil.copytree(runs[0], tmp_path / 'run')
    code = json.loads((run / 'code.json').read_text())
    code['modules']['parts']['folder'] = str(folder)
    (run / 'code.json').write_text(json.dumps(code))
    damage(folder)
    status, _, err = vitjax('eval', '--workdir', run, cwd=tmp_path / 'run')
    assert status == 2
    assert err.count('\n') == 1
    assert re.search(message, err), err
