import os
import subprocess
import sys
import time

import pytest

from vitjax.runtime.compile_cache import keep_compiled

# Like a command: the cache is set up before JAX is imported.
PROGRAM = """
from vitjax.runtime.compile_cache import keep_compiled
keep_compiled()
import jax
jax.monitoring.register_event_listener(lambda event, **_: print(event))
jax.jit(lambda x: x + 1)(1.0)
"""


@pytest.fixture
def run(tmp_path, environment):
    """Runs the program as a user whose cache folder is `tmp_path`; returns what it printed."""
    variables = environment() | {'XDG_CACHE_HOME': str(tmp_path)}
    variables |= {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    del variables['JAX_COMPILATION_CACHE_DIR']

    def run(program=PROGRAM, **more):
        command = [sys.executable, '-c', program]
        done = subprocess.run(
            command, env=variables | more, check=True, capture_output=True, text=True
        )
        assert not done.stderr  # no warning
        return done.stdout

    return run


def test_keep_compiled_shares_programs_between_processes(run, tmp_path):
    for expected, unexpected in (('misses', 'hits'), ('hits', 'misses')):
        printed = run()
        assert f'compilation_cache/cache_{expected}' in printed
        assert f'compilation_cache/cache_{unexpected}' not in printed


def test_keep_compiled_removes_incomplete_entries(run, tmp_path):
    run()
    (entry,) = tmp_path.rglob('*jit__lambda*-cache')
    whole = entry.read_bytes()
    entry.write_bytes(whole[:10])
    entry.with_name(entry.name.removesuffix('-cache') + '-atime').unlink()
    os.utime(entry, (time.time() - 3600,) * 2)
    run()
    assert len(entry.read_bytes()) > len(whole) / 2


@pytest.mark.parametrize(
    'variables',
    [
        {'JAX_COMPILATION_CACHE_DIR': '/elsewhere'},
        {'XDG_CACHE_HOME': '/proc/no/such/folder'},
    ],
    ids=['set by the user', 'not to be written'],
)
def test_keep_compiled_respects_the_environment(monkeypatch, variables):
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
    monkeypatch.delenv('JAX_COMPILATION_CACHE_MAX_SIZE', raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    keep_compiled()
    assert dict(os.environ) == before
