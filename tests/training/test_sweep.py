import json

import pytest

from vitjax.cli.sweep import split_values
from vitjax.errors import UserError
from vitjax.training import sweep


def fake(calls):
    """Stands for training: the loss is the learning rate."""

    def train(recipe, workdir, overrides):
        calls.append(dict(overrides))
        if overrides['optimizer.learning_rate'] == '9':
            raise sweep.RunError('loss or gradient not finite')
        workdir.mkdir(parents=True)
        config = sweep.read_config(recipe, overrides)
        (workdir / 'config.json').write_text(config.to_json())
        rate = float(overrides['optimizer.learning_rate'])
        rows = [
            {'step': 1, 'split': 'test', 'loss': 9.0, 'examples': 3},
            {'step': 2, 'split': 'train', 'loss': 5.0},
            {'step': 2, 'split': 'test', 'loss': rate, 'examples': 3},
            {'step': 2, 'split': 'knn', 'accuracy': 0.5, 'examples': 3},
        ]
        (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))

    return train


@pytest.mark.parametrize('jobs', [1, 3])
def test_each_combination_is_trained_once(recipe, tmp_path, monkeypatch, jobs):
    calls = []
    monkeypatch.setattr(sweep, 'train_in_process', fake(calls))
    values = {'optimizer.learning_rate': ['1e-3', '3e-3', '9'], 'model.drop_path': ['0', '0.1']}
    for _ in range(2):  # the second time nothing is left to do but what failed
        rows, failures = sweep.sweep(str(recipe), tmp_path, values, seeds=range(2), jobs=jobs)
    assert len(calls) == 12 + 4
    assert [(row['optimizer.learning_rate'], row['seed'], row['loss']) for row in rows[:3]] == [
        ('1e-3', 0, 1e-3),
        ('1e-3', 1, 1e-3),
        ('1e-3', 0, 1e-3),
    ]
    assert all(row['knn/accuracy'] == 0.5 for row in rows)
    assert len(failures) == 4
    assert 'not finite' in failures[0]
    assert len(list((tmp_path / 'runs').iterdir())) == 8


def test_a_mistake_is_told_before_anything_is_trained(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, 'train_in_process', lambda *_: pytest.fail('trained'))
    with pytest.raises(UserError, match=r'config\.model\.depth: expected int'):
        sweep.sweep(str(recipe), tmp_path, {'model.depth': ['2', 'two']})


@pytest.mark.parametrize(
    ('text', 'values'),
    [
        ('1e-3,3e-3', ['1e-3', '3e-3']),
        ('(1,2),(2, 4)', ['(1,2)', '(2, 4)']),
        ('[a,b]', ['[a,b]']),
        ('one', ['one']),
    ],
)
def test_values_are_between_commas(text, values):
    assert split_values(text) == values


@pytest.mark.slow
def test_the_command_writes_a_table_and_a_figure(recipe, tmp_path, vitjax):
    command = ('sweep', '--config', recipe, '--output', tmp_path, '--config.steps=3', '--seeds', 2)
    command += ('--set', 'optimizer.learning_rate=1e-3,1e-2', '--jobs', 2)
    code, out, err = vitjax(*command)
    assert code == 0, err
    assert out == (tmp_path / 'table.md').read_text()
    assert out.count('\n') == 4
    assert (tmp_path / 'figure.png').read_bytes().startswith(b'\x89PNG')
    rows = json.loads((tmp_path / 'results.json').read_text())['rows']
    assert [(row['optimizer.learning_rate'], row['seed']) for row in rows] == [
        ('1e-3', 0),
        ('1e-3', 1),
        ('1e-2', 0),
        ('1e-2', 1),
    ]
    again = vitjax(*command)
    assert again[:2] == (0, out)
