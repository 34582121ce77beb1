"""vitjax: from the local filter to the whole image, in JAX and Flax.

The four names below are all that a notebook needs. They are imported when first used, so that
`import vitjax` costs next to nothing and starts no backend.
"""

import importlib

__version__ = '0.1.0'
__all__ = ['create_model', 'list_models', 'load', 'save']

_HOMES = {
    'create_model': 'vitjax.models.registry',
    'list_models': 'vitjax.models.registry',
    'load': 'vitjax.pretrained',
    'save': 'vitjax.pretrained',
}


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted([*globals(), *_HOMES])
