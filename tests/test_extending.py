"""The page `docs/extending.md`: its code is run as it stands there."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import vitjax as library
from vitjax.config import base_config, complete
from vitjax.errors import UserError

PAGE = (Path(__file__).parent.parent / 'docs/extending.md').read_text()
BLOCKS = {
    name: code for name, code in re.findall(r'```python\n# (\w+\.py)\n(.*?)```', PAGE, re.DOTALL)
}
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


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with the files of the page, from which they are imported."""
    folder = tmp_path_factory.mktemp('extending')
    for name, code in BLOCKS.items():
        (folder / name).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


def examples(count, **more):
    """Random images, with further keys for each."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 8, 8, 1), np.uint8)
    made = {key: make(rng, count) for key, make in more.items()}
    return [
        {'image': image} | {key: values[i] for key, values in made.items()}
        for i, image in enumerate(images)
    ]


def config_of(task, **model):
    config = base_config()
    config.task.name = f'tasks:{task}'
    config.model = SIZES | model
    config.optimizer.ema = 0.9
    config.augment.update(shift=1, flip=True)
    config.batch_size = 8
    config.steps = 3
    config.log.every = 1
    return config


TASKS = {
    'Regression': ({'num_classes': 1}, {'target': lambda rng, n: rng.random(n)}),
    'MultiLabel': ({'num_classes': 3}, {'classes': lambda rng, n: rng.random((n, 3)) > 0.5}),
    'SimCLR': ({'num_classes': 0}, {}),
    'Segmentation': ({'num_classes': 0}, {'patches': lambda rng, n: rng.integers(0, 2, (n, 2, 2))}),
    'SelfDistillation': ({'num_classes': 0}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
def test_a_task_of_the_page_trains_and_is_loaded(task, folder, tmp_path):
    model, more = TASKS[task]
    data = {'train': examples(20, **more), 'test': examples(11, **more)}
    result = library.train(config_of(task, **model), tmp_path / 'run', data=data)
    assert result.metrics['examples'] == 11
    rows = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').read_text().splitlines()]
    losses = [row['loss'] for row in rows if row['split'] == 'train']
    assert len(set(losses)) == 3
    assert np.isfinite(losses).all()
    loaded = library.load(tmp_path / 'run')
    assert 'task' not in loaded.variables['params']
    found, expected = (flatten_dict(v['params']) for v in (loaded.variables, result.variables))
    for path, value in found.items():
        np.testing.assert_array_equal(value, expected[path])
    evaluated = library.evaluate(tmp_path / 'run', data=data)
    assert evaluated == pytest.approx(result.metrics, rel=1e-5)


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_that_the_config_names(folder, tmp_path):
    data = {'train': examples(20), 'test': examples(11)}
    teacher = complete(config_of('SimCLR', num_classes=5))
    library.train(teacher, tmp_path / 'teacher', task=Nothing(), data=data)
    config = config_of('Distillation', num_classes=5)
    config.task.teacher = str(tmp_path / 'teacher')
    config.optimizer.learning_rate = 0.0
    same = config.copy_and_resolve_references()
    same.model.pretrained = str(tmp_path / 'teacher')
    far = library.train(config, tmp_path / 'far', data=data).metrics['loss']
    near = library.train(same, tmp_path / 'near', data=data).metrics['loss']
    # Without a step, one that starts as the teacher is already where it is to go.
    assert far > 1e-6 > abs(near)


class Nothing(library.Task):
    """Learns other logits than zeros, so that there is something to teach."""

    def loss(self, model, variables, batch, *, rngs, train):
        outputs, state = self.apply(model, variables, batch['image'], rngs=rngs, train=train)
        return {'loss': ((outputs - np.arange(5)) ** 2).mean(-1)}, state


def test_a_contrastive_loss_is_not_accumulated(folder, tmp_path):
    config = config_of('SimCLR', num_classes=0)
    config.optimizer.accumulate = 2
    with pytest.raises(UserError, match='not a mean over examples'):
        library.train(config, tmp_path, data={'train': examples(8), 'test': examples(8)})


def test_a_teacher_of_averages_needs_averages(folder, tmp_path):
    config = config_of('SelfDistillation', num_classes=0)
    config.optimizer.ema = None
    with pytest.raises(UserError, match=r'set config\.optimizer\.ema'):
        library.train(config, tmp_path, data={'train': examples(8), 'test': examples(8)})


@pytest.mark.slow
def test_the_recipe_of_the_page(folder, tmp_path, command, capsys):
    run = tmp_path / 'run'
    code, out, err = command('train', '--config', folder / 'recipe.py', '--workdir', run)
    assert code == 0, err
    assert out.startswith('done 0.')
    code, out, err = command('eval', '--workdir', run, '--evals', 'confidence,valid')
    assert code == 0, err
    confidence, valid = map(json.loads, out.splitlines())
    assert 0.1 < confidence['confidence'] <= 1
    assert valid['examples'] == 100


def test_classes_of_the_page_are_short():
    pattern = r'class (\w+)\(vitjax\.Task\):\n(.*?)(?=\n\n\n|\Z)'
    for name, body in re.findall(pattern, BLOCKS['tasks.py'], re.DOTALL):
        lines = [line for line in body.splitlines() if line.strip()]
        assert len(lines) <= 20, name
