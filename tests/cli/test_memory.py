import importlib.util
import platform
import subprocess
import sys

import pytest

from vitjax.cli import memory

# How many pages a step of 48 MB of temporaries takes from the system, after the first ones.
PROGRAM = """
import resource, sys
from vitjax.cli.memory import keep_memory
if sys.argv[1] == 'kept':
    keep_memory()
import jax, jax.numpy as jnp

step = jax.jit(lambda x: x @ x @ x @ x)
x = jnp.ones((2048, 2048))
pages = []
for _ in range(6):
    step(x).block_until_ready()
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print((pages[-1] - pages[2]) // 3)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='memory is kept with glibc alone')
def test_steps_take_no_memory_anew(environment):
    pages = {}
    for what in ('kept', 'given back'):
        command = [sys.executable, '-c', PROGRAM, what]
        done = subprocess.run(command, env=environment(), check=True, capture_output=True)
        pages[what] = int(done.stdout)
    assert pages['kept'] < 100
    assert pages['given back'] > 2000


@pytest.mark.parametrize(
    ('platforms', 'installed', 'expected'),
    [
        ('cpu', ['libtpu'], True),
        ('tpu,cpu', [], False),
        (None, [], True),
        (None, ['libtpu'], False),
        ('', ['jax_plugins'], False),
    ],
)
def test_machines_with_other_devices_stay_as_they_are(monkeypatch, platforms, installed, expected):
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    if platforms is not None:
        monkeypatch.setenv('JAX_PLATFORMS', platforms)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name in installed or None)
    assert memory._only_cpus() == expected
