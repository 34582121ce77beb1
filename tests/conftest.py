"""What several test files need: a tiny recipe on the digits, and the command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

# Here compiling takes longer than running. Child processes, which are what users run, optimise.
jax.config.update('jax_disable_most_optimizations', True)

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


@pytest.fixture(scope='session')
def recipe(tmp_path_factory):
    """Path of a recipe that trains a ViT in a second; PATH:cnn trains a CNN with batch norm."""
    path = tmp_path_factory.mktemp('recipe') / 'tiny.py'
    path.write_text(TINY)
    return path


@pytest.fixture(scope='session')
def environment(tmp_path_factory):
    """Environment of a child process: a number of fake devices -> variables."""

    def variables(devices=1):
        flags = f'--xla_force_host_platform_device_count={devices}'
        return os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags}

    return variables


@pytest.fixture(scope='session')
def start(environment):
    """Starts `python -m vitjax ...` and returns the process."""

    def start(*args, devices=1, **options):
        return subprocess.Popen(
            [sys.executable, '-m', 'vitjax', *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(devices),
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
