"""What several test files need: a tiny recipe on the digits, and the command line.

Compiling is most of the time that tests take, so what one process of a session has compiled no other
compiles again.
"""

import itertools
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from filelock import FileLock

from vitjax.cli import main

# Here compiling takes longer than running. Child processes, which are what users run, optimise.
jax.config.update('jax_disable_most_optimizations', True)

# Seconds that a program takes to compile from which on it is kept for other processes.
KEPT_FROM = 0.3

ROOT = Path(__file__).parent.parent

TINY = """
from vitjax.config import base_config

def get_config(arg=None):
    config = base_config()
    config.model.update(image_size=8, in_channels=1, num_classes=10)
    if arg == 'cnn':
        config.model.update(name='cnn', widths=(4, 6), stage_depth=1, norm='batch')
    else:
        config.model.update(
            name='vit', patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, drop_path=0.2,
            pooling='mean',
        )
    config.batch_size = 16
    config.steps = 20
    config.augment.shift = 1
    config.log.every = 7
    config.eval.every = 8
    config.eval.batch_size = 112
    config.checkpoint.every = 6
    config.optimizer.ema = 0.9
    return config
"""

# Numbers in Korean and in English, which a tiny Transformer learns by heart in seconds.
_DIGITS = ('영 zero', '일 one', '이 two', '삼 three', '사 four', '오 five', '육 six', '칠 seven')
NUMBERS = [
    tuple(' '.join(word.split()[side] for word in words) for side in (0, 1))
    for length in (1, 2)
    for words in itertools.product(_DIGITS, repeat=length)
]


@pytest.fixture(scope='session')
def numbers():
    """Pairs of sentences in Korean and English, as `translator` has learned them."""
    return NUMBERS


@pytest.fixture(scope='session')
def translation_config(tmp_path_factory):
    """Config of a tiny translation run on `numbers`."""
    from vitjax.config import base_config

    folder = tmp_path_factory.mktemp('numbers')
    for split in ('train', 'test'):
        lines = ['\t'.join(pair) for pair in NUMBERS]
        (folder / f'{split}.tsv').write_text('\n'.join(lines))
    config = base_config()
    config.task.update(name='translation', sample=8)
    config.data.update(name='parallel', path=str(folder), threads=1)
    config.text.update(vocab_size=340, max_length=12)
    config.model.update(
        name='transformer', vocab_size=340, width=32, encoder_depth=1, decoder_depth=1, num_heads=2
    )
    config.batch_size = 16
    config.steps = 200
    config.optimizer.update(name='muon', learning_rate=0.02)
    config.schedule.warmup = 10
    config.log.update(every=50, tensorboard=False)
    config.checkpoint.update(every=20, keep=3)
    return config


@pytest.fixture(scope='session')
def translator(translation_config, shared):
    """Folder of a run that has learned `numbers`, made by whichever process comes first."""
    from vitjax.config import complete
    from vitjax.training.loop import train

    workdir = shared / 'translator'
    with FileLock(f'{workdir}.lock'):
        if not (workdir / 'checkpoints' / str(translation_config.steps)).exists():
            train(complete(translation_config), workdir)
    return workdir


@pytest.fixture(scope='session')
def recipe(tmp_path_factory):
    """Path of a recipe that trains a ViT in a second; PATH:cnn trains a CNN with batch norm."""
    path = tmp_path_factory.mktemp('recipe') / 'tiny.py'
    path.write_text(TINY)
    return path


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope='session')
def shared(tmp_path_factory):
    """Folder that is new in each session and shared by all its processes."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if 'PYTEST_XDIST_WORKER' in os.environ else folder


@pytest.fixture(scope='session', autouse=True)
def compiled(shared):
    """Folder of compiled programs."""
    folder = shared / 'compiled'
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', KEPT_FROM)
    return folder


@pytest.fixture(scope='session')
def environment(compiled):
    """Environment of a child process: a number of fake devices -> variables.

    With `optimise=False` it compiles sooner to what runs slower.
    """

    def variables(devices=1, optimise=True):
        return os.environ | {
            'PYTHONPATH': str(ROOT),
            'JAX_PLATFORMS': 'cpu',
            'JAX_COMPILATION_CACHE_DIR': str(compiled),
            'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': str(KEPT_FROM),
            'JAX_DISABLE_MOST_OPTIMIZATIONS': str(not optimise),
            'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
        }

    return variables


@pytest.fixture(scope='session')
def start(environment):
    """Starts `python -m vitjax ...` and returns the process; without `reuse` it compiles anew."""

    def start(*args, devices=1, reuse=True, **options):
        return subprocess.Popen(
            [sys.executable, '-m', 'vitjax', *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(devices) | {'JAX_ENABLE_COMPILATION_CACHE': str(reuse)},
            **options,
        )

    return start


@pytest.fixture(scope='session')
def vitjax(start):
    """Runs `python -m vitjax ...` to its end: (exit code, stdout, stderr)."""

    def run(*args, **options):
        process = start(*args, **options)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return run


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs `vitjax ...` in this process, where it need not start: (exit code, stdout, stderr)."""

    def run(*args):
        # Without the handlers of pytest the command sets up its own, as it does for a user.
        monkeypatch.setattr(logging.root, 'handlers', [])
        try:
            code = main([*map(str, args)])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope='session')
def finished(recipe, tmp_path_factory):
    """Folder of a finished run of the recipe, made in this process; copy it before changing it."""
    from vitjax.config import read_config
    from vitjax.training.loop import train

    workdir = tmp_path_factory.mktemp('finished')
    train(read_config(str(recipe)), workdir)
    return workdir
