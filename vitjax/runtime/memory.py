"""Settings of the C allocator and of Python's garbage collector that make CPU runs faster."""

import ctypes
import gc
import importlib.util
import mmap
import os

# Constants of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_HUGE_PAGE = 2**21


def tune_malloc() -> None:
    """Makes glibc reuse the memory that XLA frees, in huge pages; call it before JAX makes its devices.

    XLA allocates the temporaries of a step at its start and frees them at its end. By default glibc returns
    blocks of that size to the system, and each of their pages is cleared and mapped again in the next step,
    which takes a fifth of the time of a step. glibc keeps freed memory for the main thread only, so JAX is
    configured to compute in the main thread.

    It does nothing on systems other than Linux with glibc, or if JAX may find devices other than CPUs.
    """
    if not _only_cpus():
        return
    try:
        libc = ctypes.CDLL('libc.so.6')
    except OSError:
        return
    import resource  # does not exist on Windows

    import jax

    jax.config.update('jax_cpu_enable_async_dispatch', False)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    # This reserves addresses only; memory is used when it is written.
    size = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
    libc.malloc.restype = ctypes.c_void_p
    start = libc.malloc(ctypes.c_size_t(size))
    if start:
        aligned = -(-start // _HUGE_PAGE) * _HUGE_PAGE
        length = ctypes.c_size_t(start + size - aligned)
        libc.madvise(ctypes.c_void_p(aligned), length, mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(start))


def _only_cpus() -> bool:
    platforms = os.environ.get('JAX_PLATFORMS')
    if platforms:
        return platforms == 'cpu'
    return not any(map(importlib.util.find_spec, ('libtpu', 'jax_plugins')))


def collect_garbage_rarely() -> None:
    """Lets Python collect cyclic garbage after 50,000 new objects, not 700.

    Imports and the tracing of a model create hundreds of thousands of objects and hardly any garbage. With
    the default threshold, the collector takes a fifth of the time of `vitjax predict`.
    """
    gc.set_threshold(50_000, 10, 10)
