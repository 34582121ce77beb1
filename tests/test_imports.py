import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vitjax.cli import COMMANDS

PACKAGE = Path(__file__).parent.parent / 'vitjax'
PARTS = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or path.is_dir()}
PARTS -= {'__init__', '__main__', '__pycache__'}

# Part -> what it may import of vitjax besides itself.
ALLOWED = {
    'errors': set(),
    'files': {'errors'},
    'config': {'files', 'errors'},
    'layers': set(),
    'models': {'layers', 'errors'},
    'checkpoints': {'files', 'errors'},
    'data': {'config', 'files', 'errors'},
    'generation': {'layers', 'models', 'data', 'checkpoints', 'errors'},
    'pretrained': {'layers', 'models', 'data', 'checkpoints', 'config', 'files', 'errors'},
    'analysis': {
        *(
            'layers',
            'models',
            'generation',
            'pretrained',
            'data',
            'checkpoints',
            'config',
            'files',
            'errors',
        ),
    },
    'tasks': {'layers', 'models', 'generation', 'data', 'config', 'errors'},
    'training': {
        *(
            'layers',
            'models',
            'tasks',
            'data',
            'checkpoints',
            'pretrained',
            'config',
            'files',
            'errors',
        ),
    },
    'cli': PARTS,
}
# A config's keys are the arguments of what it names, which is imported when it is read.
LAZY = {'config': {'models', 'tasks', 'training'}}


def imports(path):
    """(module, whether it is imported when the file is) for every import in a file."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} has a relative import'
            modules = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for module in modules:
            yield module, id(node) not in inside


FILES = pytest.mark.parametrize(
    'path',
    [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in PACKAGE.rglob('*.py')],
)


@FILES
def test_imports_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if part in ('__init__', '__main__'):
        return
    for module, at_once in imports(path):
        root, *names = module.split('.')
        if root == 'vitjax' and names:
            allowed = ALLOWED[part] | {part} | (set() if at_once else LAZY.get(part, set()))
            assert names[0] in allowed, f'{part} imports {module}'


@FILES
def test_neither_tensorflow_nor_pytorch_is_imported(path):
    roots = {module.split('.')[0] for module, _ in imports(path)}
    assert not roots & {'tensorflow', 'tensorflow_text', 'torch', 'torchvision', 'timm'}


def test_every_part_is_in_the_table():
    assert ALLOWED.keys() >= PARTS


def python(code, **changes):
    """Runs code in a new process and returns what it prints."""
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=PACKAGE.parent,
        env={'PATH': '', 'PYTHONPATH': str(PACKAGE.parent)} | changes,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


HEAVY = "{'jax', 'jaxlib', 'flax', 'numpy', 'grain', 'orbax', 'PIL', 'optax', 'ml_collections'}"


def test_import_vitjax_costs_nothing():
    code = f'import sys, vitjax; dir(vitjax); print({HEAVY} & set(sys.modules))'
    assert python(code) == 'set()\n'


@pytest.mark.parametrize('command', [None, *COMMANDS])
def test_help_answers_without_importing_jax(command):
    words = ['--help'] if command is None else [command, '--help']
    code = f"""
import sys
from vitjax.cli import main
try:
    main({words})
except SystemExit as stop:
    assert stop.code == 0
print({HEAVY} & set(sys.modules))
"""
    *text, heavy = python(code).splitlines()
    assert heavy == 'set()'
    assert text[0].startswith(f'usage: vitjax {command or "[-h]"}')
    assert len(text) > 5


def test_imports_start_no_backend():
    """With no platform that could start, whatever asks for devices fails."""
    code = """
import importlib, pkgutil, vitjax
for module in pkgutil.walk_packages(vitjax.__path__, 'vitjax.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)
vitjax.create_model('vit_s16')
import jax
try:
    jax.devices()
except RuntimeError:
    print('no backend')
"""
    assert python(code, JAX_PLATFORMS='nowhere') == 'no backend\n'
