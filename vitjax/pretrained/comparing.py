"""Whether two models compute the same, apart from their parameters."""

import dataclasses
from typing import Any

from flax import linen as nn

from vitjax.errors import UserError
from vitjax.layers.patches import as_pair

# Arguments that change neither parameters nor what they compute; no layout stores them.
_SWITCHES = (
    *('name', 'parent', 'dtype', 'scan', 'remat', 'attention_kernel', 'dropout', 'drop_path'),
)


def check_same(model: nn.Module, written: nn.Module) -> None:
    """UserError if what would be written is another model; if one is nearly the same, it says how."""
    read, facts = _facts(written), _facts(model)
    differing = {name: read.get(name) for name in facts if read.get(name) != facts[name]}
    if not differing:
        return
    message = ', '.join(f'its {name} is {facts[name]!r}' for name in differing)
    message += f', and what would be written reads as {", ".join(map(repr, differing.values()))}'
    if differing.keys() <= {'norm_epsilon', 'activation'} and (
        'activation' not in differing or facts['activation'] == 'gelu'
    ):
        said = ' and '.join(f'{name}={value!r}' for name, value in differing.items())
        words = ' '.join(f'--set {name}={value}' for name, value in differing.items())
        message += (
            f'; load it with {said} (vitjax convert: {words}) to write one that computes '
            'the same to about 1e-3'
        )
    raise UserError(message)


def _facts(model: nn.Module) -> dict[str, Any]:
    """What a model computes, apart from its parameters: one value for arguments that mean the same."""
    facts = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in _SWITCHES
    }
    facts['model'] = type(model).__name__
    facts |= {name: as_pair(facts[name]) for name in ('image_size', 'patch_size') if name in facts}
    if facts['model'] in ('ViT', 'MAE'):
        facts['mlp_dim'] = model.mlp_dim or 4 * model.width
    if facts['model'] == 'ViT':
        facts['class_token'] = bool(model.prefix['class_token'])
        facts['prefix_positions'] = model.num_placed if model.positions == 'learned' else None
        facts['pool_prefix'] = model.pools_prefix
        facts['layer_scale'] = model.layer_scale is not None  # the number is where training starts
        facts['stem_width'] = model.stem_width if model.stem_depths is not None else None
    return facts
