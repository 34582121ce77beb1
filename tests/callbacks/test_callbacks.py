import subprocess
import sys

import pytest

from vitjax.callbacks import CALLBACKS
from vitjax.errors import UserError

LIBRARIES = {'wandb', 'mlflow', 'matplotlib'}


def test_importing_callbacks_and_evaluations_imports_no_extra(environment):
    code = f"""
import sys
import vitjax.callbacks, vitjax.evaluation
print(sorted({LIBRARIES} & set(sys.modules)))
"""
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout == '[]\n'


@pytest.mark.parametrize(
    ('name', 'extra'), [('wandb', 'wandb'), ('mlflow', 'mlflow'), ('predictions', 'figures')]
)
def test_missing_library_names_the_extra(name, extra, environment, tmp_path):
    """Also where a folder in the current one has the library's name."""
    (tmp_path / name).mkdir()
    code = f"""
import importlib.util, sys
from vitjax.callbacks import CALLBACKS
sys.path = [p for p in sys.path if 'site-packages' not in p]
importlib.invalidate_caches()
try:
    CALLBACKS['{name}']()
except ValueError as error:
    print(type(error).__name__, error)
"""
    command = [sys.executable, '-c', code]
    result = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stdout.startswith('UserError'), result.stderr
    assert f"pip install 'vitjax[{extra}]'" in result.stdout


@pytest.mark.parametrize('name', CALLBACKS)
def test_making_a_callback_touches_no_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        CALLBACKS[name]()
    except UserError as error:
        pytest.skip(str(error))
    assert not any(tmp_path.iterdir())
