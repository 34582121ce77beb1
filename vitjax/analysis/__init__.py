"""What a model sees: attention, receptive fields, reconstructions, alignments."""

import importlib

__all__ = [
    'attention_distance',
    'attention_maps',
    'attention_rollout',
    'receptive_field',
    'reconstruct',
]

_HOMES = {
    'attention_distance': 'vitjax.analysis.distances',
    'attention_maps': 'vitjax.analysis.attention',
    'attention_rollout': 'vitjax.analysis.attention',
    'receptive_field': 'vitjax.analysis.receptive_fields',
    'reconstruct': 'vitjax.analysis.reconstruction',
}


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted([*globals(), *_HOMES])
