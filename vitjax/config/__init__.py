"""Configs: plain values, each key with its type, its range and its meaning.

A recipe is a Python file with `get_config(arg=None)` that returns `base_config()` with some values
changed. A config is data: an `ml_collections.ConfigDict` that prints and stores as JSON.

Some parts are chosen by name: `task`, `model`, `data`, `augment`, `optimizer`, `schedule`, and each entry of
`evals` and `callbacks`. A name is a built-in short one or an import path 'package.module:Attr'. The further
keys of such a part are the arguments of what is named, with its defaults: `config.model.depth` is known where
`config.model.name` is a Vision Transformer, and refused where it is something that has no depth.
"""

from vitjax.config.keys import PREPROCESSING, Optimizer
from vitjax.config.reading import (
    arguments,
    base_config,
    complete,
    import_paths,
    in_steps,
    read_config,
    total_steps,
)
from vitjax.config.types import Count, Fraction, NotNegative, Positive, Range, signature

__all__ = [
    'PREPROCESSING',
    'Count',
    'Fraction',
    'NotNegative',
    'Optimizer',
    'Positive',
    'Range',
    'arguments',
    'base_config',
    'complete',
    'import_paths',
    'in_steps',
    'read_config',
    'signature',
    'total_steps',
]
