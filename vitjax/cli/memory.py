"""The former place and name of `vitjax.runtime.memory.tune_malloc`, kept for programs that import it."""

from vitjax.runtime.memory import tune_malloc as keep_memory

__all__ = ['keep_memory']
