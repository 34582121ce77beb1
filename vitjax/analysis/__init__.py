"""What a model sees, does and costs."""

import importlib

__all__ = ['receptive_field']


def __getattr__(name):
    if name in __all__:
        return getattr(importlib.import_module('vitjax.analysis.receptive_fields'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted([*globals(), *__all__])
