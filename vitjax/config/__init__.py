"""What a run is told: plain values, each key with its type, its range and its meaning.

A recipe is a Python file with `get_config(arg=None)` that returns `base_config()` with some values
changed. A config is data: an `ml_collections.ConfigDict` that prints and stores as JSON.

Four parts are chosen by name: `task`, `model`, `optimizer`, `schedule`. Their further keys are the
arguments of what is named, with its defaults: `config.model.depth` is known where `config.model.name` is a
Vision Transformer, and refused where it is something that has no depth.
"""

from vitjax.config.keys import PREPROCESSING, Augment, Optimizer
from vitjax.config.reading import (
    arguments,
    base_config,
    complete,
    in_steps,
    read_config,
    total_steps,
)
from vitjax.config.types import Count, Fraction, Range, signature

__all__ = [
    'PREPROCESSING',
    'Augment',
    'Count',
    'Fraction',
    'Optimizer',
    'Range',
    'arguments',
    'base_config',
    'complete',
    'in_steps',
    'read_config',
    'signature',
    'total_steps',
]
