"""The former name of `vitjax.runtime.memory.tune_malloc`, which programs of users import from here."""

from vitjax.runtime.memory import tune_malloc as keep_memory

__all__ = ['keep_memory']
