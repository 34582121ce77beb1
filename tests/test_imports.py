import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vitjax.cli import COMMANDS

PACKAGE = Path(__file__).parent.parent / 'vitjax'
# From the ground up: a room may import itself and rooms on lower floors, and those of its own floor that
# are named for it in SAME_FLOOR.
FLOORS = (
    {'errors', 'protocols'},
    {'files', 'registry'},
    {'config', 'layers', 'runtime'},
    {'models', 'checkpoints'},
    {'data'},
    {'generation'},
    {'analysis'},
    {'tasks', 'evaluation', 'callbacks', 'pretrained'},
    {'training'},
    {'planning'},
    {'cli'},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Room -> rooms of lower floors that it does not need: what they have is given to it.
NEVER = {
    'layers': {'files', 'registry'},
    'models': {'config'},
    'runtime': {'registry', 'protocols'},
}


def is_type_checking(node):
    return isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)


def imports(path):
    """Every module that an import statement of a file names, at any depth, with the names taken from it."""
    tree = ast.parse(path.read_text())
    if path == PACKAGE / '__init__.py':  # which shows type checkers where its lazy names are
        tree.body = [node for node in tree.body if not is_type_checking(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} has a relative import'
            yield node.module, tuple(alias.name for alias in node.names)


def file_of(module):
    """The file of a module of vitjax; None for any other."""
    path = PACKAGE.parent.joinpath(*module.split('.'))
    if path.with_suffix('.py').is_file():
        return path.with_suffix('.py')
    return path / '__init__.py' if (path / '__init__.py').is_file() else None


def imported_files(path):
    """The files of vitjax that a file imports."""
    found = set()
    for module, names in imports(path):
        if module.split('.')[0] != 'vitjax':
            continue
        inner = [file_of(f'{module}.{name}') for name in names]
        found |= {file for file in inner if file}
        # The package itself only where names come from it that are no modules.
        if not names or None in inner:
            found.add(file_of(module))
    return found - {path}


FILES = sorted(PACKAGE.rglob('*.py'))
EACH_FILE = pytest.mark.parametrize(
    'path', [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in FILES]
)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


@EACH_FILE
def test_imports_run_one_way(path):
    room = room_of(path)
    if room in ('__init__', '__main__'):
        return
    for file in imported_files(path):
        other = room_of(file)
        if other == '__init__':  # the version, and in commands the public names
            continue
        is_lower = FLOOR[other] < FLOOR[room] and other not in NEVER.get(room, ())
        assert other == room or is_lower, f'{room} imports {file.relative_to(PACKAGE)}'


def test_no_files_import_each_other():
    graph = {path: imported_files(path) for path in FILES}
    # Take away what imports nothing that is left, until only circles are.
    while free := [path for path, others in graph.items() if not others & graph.keys()]:
        for path in free:
            del graph[path]
    circles = {
        str(path.relative_to(PACKAGE)): sorted(
            str(o.relative_to(PACKAGE)) for o in others & graph.keys()
        )
        for path, others in graph.items()
    }
    assert not circles


def test_only_the_public_names_are_imported_for_type_checkers():
    for path in FILES:
        found = any(is_type_checking(node) for node in ast.walk(ast.parse(path.read_text())))
        assert found == (path == PACKAGE / '__init__.py'), path


@EACH_FILE
def test_neither_tensorflow_nor_pytorch_is_imported(path):
    roots = {module.split('.')[0] for module, _ in imports(path)}
    assert not roots & {'tensorflow', 'tensorflow_text', 'torch', 'torchvision', 'timm'}


def test_every_room_is_in_the_table():
    assert {room_of(path) for path in FILES} - {'__init__', '__main__'} == FLOOR.keys()


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


HEAVY = (
    "{'jax', 'jaxlib', 'flax', 'jaxtyping', 'beartype', 'numpy', 'grain', 'orbax', 'PIL', 'optax', "
    "'ml_collections'}"
)


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


@pytest.mark.parametrize('words', [['models', 'vit_*'], ['configs'], ['configs', 'digits']])
def test_models_and_configs_answer_without_importing_jax(words):
    code = f"""
import sys
from vitjax.cli import main
sys.argv = ['vitjax', *{words}]
assert main() == 0
print({{'jax', 'jaxlib', 'flax', 'grain', 'orbax', 'optax'}} & set(sys.modules))
"""
    assert python(code).splitlines()[-1] == 'set()'


def test_loading_and_predicting_import_no_training_libraries():
    code = """
import sys
import vitjax.cli.predict, vitjax.pretrained.loading, vitjax.tasks
print({'grain', 'optax', 'sklearn', 'scipy', 'sacrebleu', 'matplotlib'} & set(sys.modules))
"""
    assert python(code) == 'set()\n'
