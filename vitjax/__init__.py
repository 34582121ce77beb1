"""vitjax: from the local filter to the whole image, in JAX and Flax.

The names below are the public ones. They are imported when first used, so that `import vitjax` costs next to
nothing and starts no backend.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = '0.1.0'
__all__ = [
    'Arrays',
    'Callback',
    'Evaluator',
    'Experiment',
    'Preprocess',
    'Pretrained',
    'Result',
    'Source',
    'Task',
    'base_config',
    'create_model',
    'evaluate',
    'list_models',
    'load',
    'read_config',
    'save',
    'train',
]

_HOMES = {
    'Arrays': 'vitjax.data.arrays',
    'Callback': 'vitjax.protocols',
    'Evaluator': 'vitjax.protocols',
    'Experiment': 'vitjax.training.experiment',
    'Preprocess': 'vitjax.data.preprocess',
    'Pretrained': 'vitjax.pretrained',
    'Result': 'vitjax.training.loop',
    'Source': 'vitjax.protocols',
    'Task': 'vitjax.tasks.task',
    'base_config': 'vitjax.config',
    'create_model': 'vitjax.models.registry',
    'evaluate': 'vitjax.training.evaluate',
    'list_models': 'vitjax.models.registry',
    'load': 'vitjax.pretrained',
    'read_config': 'vitjax.config',
    'save': 'vitjax.pretrained',
    'train': 'vitjax.training.loop',
}

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from vitjax.config import base_config, read_config
    from vitjax.data.arrays import Arrays
    from vitjax.data.preprocess import Preprocess
    from vitjax.models.registry import create_model, list_models
    from vitjax.pretrained import Pretrained, load, save
    from vitjax.protocols import Callback, Evaluator, Source
    from vitjax.tasks.task import Task
    from vitjax.training.evaluate import evaluate
    from vitjax.training.experiment import Experiment
    from vitjax.training.loop import Result, train
else:  # hidden from type checkers, which would take any name for an attribute

    def __getattr__(name):
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
