"""JAX's persistent compilation cache in the user's cache folder: a second start does not compile again."""

import hashlib
import os
import platform
import time
from pathlib import Path

from vitjax.files import user_cache

_MAX_BYTES = 2 * 2**30  # the least recently used programs are removed first
_MIN_SECONDS = 0.1  # programs that compile faster are not stored; JAX's default is 1
_MAX_WRITE_SECONDS = 60  # writing an entry takes less


def keep_compiled() -> None:
    """Makes JAX store compiled programs in the user's cache folder; call it before JAX is imported.

    Simultaneous commands share the folder. Each kind of processor has its own folder, because machines may
    share a home, and a program for one CPU may use instructions that another lacks. Nothing is changed if
    JAX_COMPILATION_CACHE_DIR is set, or if the folder is not writable; JAX_ENABLE_COMPILATION_CACHE=false
    disables the cache.
    """
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
        return
    try:
        folder = user_cache() / f'compiled-{_processor()}'
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return
    if os.access(folder, os.W_OK):
        os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder)
        os.environ.setdefault('JAX_COMPILATION_CACHE_MAX_SIZE', str(_MAX_BYTES))
        os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', str(_MIN_SECONDS))


def _processor() -> str:
    """A name that is equal for processors with the same instruction set."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    keys = ('model name', 'flags', 'Features')
    selected = sorted({line for line in lines if line.startswith(keys)})
    name = hashlib.sha256('\n'.join(selected).encode()).hexdigest()[:8]
    return f'{platform.machine()}-{name}'


def _remove_unfinished(folder: Path) -> None:
    """Removes entries of commands that were killed while writing: JAX would fail to read them every time."""
    for entry in folder.glob('*-cache'):
        used = entry.with_name(entry.name.removesuffix('-cache') + '-atime')  # written last
        if not used.exists() and entry.stat().st_mtime < time.time() - _MAX_WRITE_SECONDS:
            entry.unlink(missing_ok=True)
