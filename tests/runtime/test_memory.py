import importlib.util
import mmap
import platform
import subprocess
import sys

import pytest

from vitjax.runtime import memory

# Prints how many pages a step with a temporary of 64 MiB requests from the system, after the first steps.
# glibc returns blocks above 32 MiB at once, smaller ones only sometimes. Transparent huge pages are disabled.
PROGRAM = """
import ctypes, resource, statistics, sys
PR_SET_THP_DISABLE = 41
from vitjax.runtime.memory import tune_malloc
if sys.argv[1] == 'kept':
    tune_malloc()
else:
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
import jax, jax.numpy as jnp

step = jax.jit(lambda x: (x @ x.T) @ x)
x = jnp.ones((4096, 64))
pages = []
for _ in range(8):
    step(x).block_until_ready()
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(statistics.median_low(after - before for before, after in zip(pages[2:], pages[3:])))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='memory is kept with glibc alone')
def test_tune_malloc_lets_steps_reuse_memory(environment):
    pages = {}
    for what in ('kept', 'given back'):
        command = [sys.executable, '-c', PROGRAM, what]
        done = subprocess.run(command, env=environment(), check=True, capture_output=True)
        pages[what] = int(done.stdout)
    assert pages['kept'] < 200
    assert pages['given back'] >= 64 * 2**20 // mmap.PAGESIZE


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
def test_tune_malloc_does_nothing_with_other_devices(monkeypatch, platforms, installed, expected):
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    if platforms is not None:
        monkeypatch.setenv('JAX_PLATFORMS', platforms)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name in installed or None)
    assert memory._only_cpus() == expected
