"""Compiled programs, kept from one command to the next: a second start need not compile again."""

import hashlib
import os
import platform
import time
from pathlib import Path

from vitjax.files import user_cache

_LARGEST = 2 * 2**30  # bytes that are kept; what was used longest ago goes first
_MIN_SECONDS = 0.1  # programs that compile faster are not stored; JAX's default is 1
_WRITING = 60  # seconds that writing an entry takes at most


def keep_compiled() -> None:
    """Has JAX keep compiled programs in the user's cache folder; call it before JAX is imported.

    Commands that run at the same time share the folder. Each kind of processor has its own, as homes
    are shared over machines, and programs for a CPU may use instructions that another lacks. Whoever
    sets JAX_COMPILATION_CACHE_DIR, or JAX_ENABLE_COMPILATION_CACHE=false, decides for themselves; in a
    folder that cannot be written nothing is kept.
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
        os.environ.setdefault('JAX_COMPILATION_CACHE_MAX_SIZE', str(_LARGEST))
        os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', str(_MIN_SECONDS))


def _processor() -> str:
    """A name for processors that run the same instructions."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    told = ('model name', 'flags', 'Features')
    facts = sorted({line for line in lines if line.startswith(told)})
    name = hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:8]
    return f'{platform.machine()}-{name}'


def _remove_unfinished(folder: Path) -> None:
    """Removes entries of commands that were killed as they wrote: JAX would trip over them for ever."""
    for entry in folder.glob('*-cache'):
        used = entry.with_name(entry.name.removesuffix('-cache') + '-atime')  # is written last
        if not used.exists() and entry.stat().st_mtime < time.time() - _WRITING:
            entry.unlink(missing_ok=True)
