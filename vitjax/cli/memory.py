"""The name under which programs of users import `keep_memory`, which is in `vitjax.runtime.memory`."""

from vitjax.runtime.memory import keep_memory

__all__ = ['keep_memory']
