"""What type checkers see of the public names, from outside of the package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import vitjax

ROOT = Path(__file__).parents[1]
PROGRAM = """
from typing import Any

import jax
import numpy as np

import vitjax


class Age(vitjax.Task):
    def loss(
        self, model: Any, variables: Any, batch: Any, *, rngs: Any, train: bool
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        predicted = model.apply(variables, batch['image'])[:, 0]
        return {'loss': (predicted - batch['age']) ** 2}, {}


def show(event: Any) -> dict[str, float] | None:
    print(event.step, event.metrics)
    return None


faces = vitjax.Arrays('faces', np.zeros((8, 8, 8, 1)), more={'age': np.arange(8)})
data = {'train': faces, 'test': faces}
config = vitjax.read_config('vitjax:digits', {'steps': 2, 'data.eval_split': 'test'})
model = vitjax.create_model('vit_ti16', image_size=8, patch_size=4, num_classes=1)
result: vitjax.Result = vitjax.train(
    config, 'run', model=model, task=Age(), data=data, callbacks=[show]
)
loss: float = result.metrics['loss']
names: list[str] = vitjax.list_models('vit_*')
metrics: dict[str, float] = vitjax.evaluate('run', task=Age(), data=data)
pretrained: vitjax.Pretrained = vitjax.load('run', step='newest')
outputs = pretrained.model.apply(pretrained.variables, pretrained.preprocess(faces.images))
vitjax.save(pretrained, 'weights')
vitjax.nonsense()
""".lstrip()
MISTAKES = [
    PROGRAM.splitlines().index(line) + 1
    for line in PROGRAM.splitlines()
    if 'newest' in line or 'nonsense' in line
]


@pytest.fixture
def program(tmp_path):
    path = tmp_path / 'program.py'
    path.write_text(PROGRAM)
    return path


@pytest.mark.slow
def test_mypy_finds_the_two_mistakes_in_a_users_program(program, monkeypatch):
    api = pytest.importorskip('mypy.api', reason="needs pip install 'vitjax[types]'")
    monkeypatch.setenv('MYPYPATH', str(ROOT))
    options = ['--follow-imports=silent', '--ignore-missing-imports', '--strict', '--config-file=']
    cache = f'--cache-dir={ROOT / ".mypy_cache/users"}'
    found, errors, _ = api.run([*options, cache, str(program)])
    lines = [int(line.split(':')[1]) for line in found.splitlines() if ': error: ' in line]
    assert lines == MISTAKES, found + errors


@pytest.mark.slow
def test_pyright_finds_the_two_mistakes_in_a_users_program(program):
    pytest.importorskip('basedpyright', reason="needs pip install 'vitjax[types]'")
    settings = {
        'typeCheckingMode': 'standard',
        'extraPaths': [str(ROOT)],
        'include': [program.name],
    }
    program.with_name('pyrightconfig.json').write_text(json.dumps(settings))
    command = [sys.executable, '-m', 'basedpyright', '--outputjson', '--level', 'error']
    run = subprocess.run(
        [*command, '--pythonpath', sys.executable, '-p', str(program.parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(run.stdout)['generalDiagnostics']
    assert [x['range']['start']['line'] + 1 for x in found] == MISTAKES, found


def test_every_public_name_is_imported_for_type_checkers():
    """What `TYPE_CHECKING` imports is what is found when the program runs."""
    source = (ROOT / 'vitjax/__init__.py').read_text()
    for name in vitjax.__all__:
        home = vitjax._HOMES[name]
        line = next(
            line for line in source.splitlines() if line.strip().startswith(f'from {home} import')
        )
        assert name in line.partition(' import ')[2].split(', ')
        assert getattr(vitjax, name) is not None
