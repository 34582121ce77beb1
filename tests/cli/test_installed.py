"""vitjax installed from its wheel, which is built from its sdist, and used from an empty folder."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ('configs', 'vitjax', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE')

pytestmark = pytest.mark.slow


def run(*words, **options):
    """Standard output of a command that must succeed."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind, folder, output):
    """Builds the 'sdist' or 'wheel' of a source folder with setuptools alone, which needs no network."""
    code = f'from setuptools import build_meta; print(build_meta.build_{kind}({str(output)!r}))'
    return output / run(sys.executable, '-c', code, cwd=folder).splitlines()[-1]


@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return build('sdist', folder, tmp_path_factory.mktemp('sdist'))


@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp('unpacked')
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter='data')
    return build('wheel', next(folder.iterdir()), tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def vitjax(wheel, tmp_path_factory, environment):
    """Runs the installed command in an empty folder and returns what it prints."""
    site = tmp_path_factory.mktemp('site')
    pip = (sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--quiet')
    run(*pip, '--target', site, wheel)
    # Dependencies come from the environment of the tests; the installed vitjax comes first.
    folder = tmp_path_factory.mktemp('empty')
    options = dict(cwd=folder, env=environment(optimise=False) | {'PYTHONPATH': str(site)})
    file = run(sys.executable, '-c', 'import vitjax; print(vitjax.__file__)', **options)
    assert file == f'{site}/vitjax/__init__.py\n'

    def vitjax(*words):
        return run(sys.executable, site / 'bin/vitjax', *words, **options)

    vitjax.folder = folder
    return vitjax


def expected_files():
    """Files that an installation needs, by their path in it."""
    package = [path for path in (ROOT / 'vitjax').rglob('*') if path.is_file()]
    recipes = (ROOT / 'configs').rglob('*.py')
    paths = [path.relative_to(ROOT) for path in package if '__pycache__' not in path.parts]
    return {str(path) for path in paths} | {
        str(Path('vitjax') / path.relative_to(ROOT)) for path in recipes
    }


def test_wheel_holds_modules_recipes_and_data_files(wheel):
    files = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
    assert files == expected_files()


def test_sdist_holds_modules_recipes_and_data_files(sdist):
    with tarfile.open(sdist) as archive:
        files = {name.partition('/')[2] for name in archive.getnames()}
    assert {path.removeprefix('vitjax/configs/') for path in expected_files()} <= {
        path.removeprefix('configs/') for path in files
    }


def test_installed_command_prints_and_trains_recipes(vitjax):
    assert 'mae/digits' in vitjax('configs')
    assert vitjax('configs', 'digits') == (ROOT / 'configs/digits.py').read_text()
    sizes = ('--config.steps=2', '--config.schedule.warmup=1', '--config.optimizer.name=adamw')
    sizes += tuple(
        f'--config.model.{key}={x}' for key, x in dict(depth=1, width=8, mlp_dim=8).items()
    )
    out = vitjax('train', '--config', 'vitjax:digits', '--workdir', 'run', *sizes)
    assert 'next: vitjax predict --checkpoint run run/examples/' in out
