"""timm's config.json: what it tells of a model besides the tensors, and what it can say of ours."""

import math
import re
from collections.abc import Mapping
from typing import Any

from vitjax.errors import UserError
from vitjax.layers.patches import as_pair
from vitjax.models.vit import ViT
from vitjax.pretrained.layouts.base import Checkpoint, refuse
from vitjax.pretrained.layouts.pytorch import IMAGENET
from vitjax.pretrained.model import Pretrained

PATCHES = 'patch_embed.proj.weight'
PREPROCESS = IMAGENET | {'crop': 0.875, 'interpolation': 'bicubic'}  # what timm takes by default
# Their arguments of the constructor, and ours that mean the same.
_ARGUMENTS = {
    'img_size': 'image_size',
    'patch_size': 'patch_size',
    'in_chans': 'in_channels',
    'num_classes': 'num_classes',
    'embed_dim': 'width',
    'depth': 'depth',
    'num_heads': 'num_heads',
    'qkv_bias': 'qkv_bias',
    'qk_norm': 'qk_norm',
    'class_token': 'class_token',
    'reg_tokens': 'num_registers',
    'pre_norm': 'norm_embeddings',
    'init_values': 'layer_scale',
    'global_pool': 'pooling',
    'pool_include_prefix': 'pool_prefix',
    'act_layer': 'activation',
}
_VALUES = {
    'global_pool': {'token': 'cls', 'avg': 'mean', 'map': 'map'},
    'act_layer': {name: name for name in ('gelu', 'gelu_tanh', 'quick_gelu', 'silu')},
}
# Blocks of other kinds whose tensors have the names of ours.
_OTHERS = re.compile(r'_rpn_')
# Only these of SigLIP's have the tanh approximation of GELU in timm.
_SIGLIP2 = re.compile(
    r'(giantopt_patch16|so400m_patch16|base_patch32)_siglip|large_patch16_siglip(_gap)?_512'
)
_KNOWN = re.compile(r'vit_|deit|flexivit|eva_large|test_vit')


def read_config(
    checkpoint: Checkpoint, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """What the config.json tells: constructor arguments, labels, preprocessing at the size asked for."""
    config = checkpoint.config
    data = config.get('pretrained_cfg', config)  # one object in older folders
    stored = config.get('model_args', {})
    said = {name: config[name] for name in ('num_classes', 'global_pool') if config.get(name)}
    said |= stored
    arguments = {}
    for name, value in said.items():
        if name in _VALUES and value is not None:
            value = _VALUES[name].get(value)
            if value is None:
                raise UserError(
                    f'{checkpoint.place}: its config says {name}={said[name]!r}; '
                    f'known: {", ".join(_VALUES[name])}'
                )
        if name in _ARGUMENTS and value is not None:
            arguments[_ARGUMENTS[name]] = value
    if 'architecture' in config:  # a table that is missing in the tensors is no model without one
        none = stored.get('pos_embed', 'learn') in ('', 'none', None)
        arguments['positions'] = 'none' if none else 'learned'
    if len(data.get('input_size', ())) == 3:
        arguments = {'image_size': data['input_size'][1:]} | arguments
    if 'image_size' in arguments:
        # What whole patches leave at the right and below, timm does not look at.
        size, patch = as_pair(arguments['image_size']), checkpoint.tensors[PATCHES].shape[2:]
        arguments['image_size'] = tuple(
            length // side * side for length, side in zip(size, patch, strict=True)
        )
    labels = config.get('label_names') or data.get('label_names')
    preprocess = PREPROCESS | {
        ours: data[theirs]
        for theirs, ours in [('mean', 'mean'), ('std', 'std'), ('crop_pct', 'crop')]
        if theirs in data
    }
    if size := overrides.get('image_size', arguments.get('image_size')):
        preprocess['crop'] = _whole_crop(preprocess['crop'], size)
    if 'interpolation' in data:
        preprocess['interpolation'] = data['interpolation']
    preprocess['squash'] = data.get('crop_mode') == 'squash'
    return arguments, tuple(labels) if labels else None, preprocess


def architecture_args(checkpoint: Checkpoint, width: int) -> dict[str, Any]:
    """What the name of an architecture tells, where its arguments are not stored."""
    name = checkpoint.config.get('architecture', '')
    if _OTHERS.search(name):
        raise UserError(f'{checkpoint.place} is a {name}, whose blocks are not those of a ViT')
    if not _KNOWN.match(name):
        return {}
    heads = 16 if width > 1024 else width // (32 if name.startswith('test_') else 64)
    if re.search('dinov2|tipsv2', name) and width == 1536:
        heads = 24
    if name == 'vit_base_patch16_gap_224':
        heads = 16
    known = {'num_heads': heads, 'norm_epsilon': 1e-5 if '_clip_' in name else 1e-6}
    if 'quickgelu' in name:
        known['activation'] = 'quick_gelu'
    elif _SIGLIP2.search(name):
        known['activation'] = 'gelu_tanh'
    return known | {'pool_prefix': name == 'test_vit3'}


def write_config(pretrained: Pretrained) -> dict[str, Any]:
    """The config.json, with every argument that timm's constructor takes."""
    model = pretrained.model
    distilled = model.distillation == 'head'
    height, width = as_pair(model.image_size)
    inner = (model.mlp_dim or 4 * model.width) * (2 if model.gated_mlp else 1)
    ratio = inner / model.width
    arguments = {
        'img_size': [height, width],
        'patch_size': list(as_pair(model.patch_size)),
        'in_chans': model.in_channels,
        'embed_dim': model.width,
        'depth': model.depth,
        'num_heads': model.num_heads,
        # timm rounds down what floats make of it.
        'mlp_ratio': ratio if int(model.width * ratio) == inner else (inner + 0.5) / model.width,
        'qkv_bias': model.qkv_bias,
        'qk_norm': model.qk_norm,
        'init_values': model.layer_scale,
        'act_layer': model.activation,
        'global_pool': {'cls': 'token', 'mean': 'avg', 'map': 'map'}[model.pooling],
        'class_token': bool(model.prefix['class_token']),
    }
    if not distilled:
        arguments |= {
            'reg_tokens': model.num_registers,
            'pre_norm': model.norm_embeddings,
            'fc_norm': model.norm_after_pooling,
            'no_embed_class': model.num_placed == 0,
            'pos_embed': 'learn' if model.positions == 'learned' else 'none',
            'pool_include_prefix': model.pools_prefix,
        }
    facts = pretrained.preprocess.facts
    config = {
        'architecture': _base(model),
        'num_classes': model.num_classes,
        'num_features': model.width,
        'global_pool': arguments['global_pool'],
        'model_args': arguments,
        'pretrained_cfg': {
            'input_size': [model.in_channels, height, width],
            'fixed_input_size': True,
            'interpolation': facts['interpolation'],
            'crop_pct': _crop_pct(facts['crop'], (height, width)),
            'crop_mode': 'squash' if facts['squash'] else 'center',
            'mean': facts['mean'],
            'std': facts['std'],
            'num_classes': model.num_classes,
            'pool_size': None,
            'first_conv': 'patch_embed.proj',
            'classifier': ['head', 'head_dist'] if distilled else 'head',
        },
    }
    if pretrained.labels:
        config['label_names'] = list(pretrained.labels)
    return config


def _whole_crop(crop: float, size: int | tuple[int, int]) -> float:
    """The part that is cut out in truth: timm resizes to whole pixels before (data/transforms_factory.py)."""
    longest = max(as_pair(size))
    return longest / math.floor(longest / crop) if 0 < crop <= 1 else crop


def _crop_pct(crop: float, size: tuple[int, int]) -> float:
    """That of which timm, which rounds down, makes the whole number of pixels that is nearest."""
    longest = max(size)
    pixels = round(longest / crop)
    exact = longest / pixels
    return exact if math.floor(longest / exact) == pixels else math.nextafter(exact, 0)


def check_holds(model: ViT) -> None:
    """UserError if timm has no such model."""
    reasons = {
        'its ViT has no stem': model.stem_depths is not None,
        f'it has no positions {model.positions!r}': model.positions not in ('learned', 'none'),
        'it has no representation layer': model.representation_size is not None,
        f'it has no pooling {model.pooling!r}': model.pooling == 'cls_mean',
        'its patch embedding has a bias unless norm_embeddings is set': (
            model.patch_bias == model.norm_embeddings
        ),
        'it has no gated MLP with attention pooling': model.gated_mlp and model.pooling == 'map',
        'it cuts the image into whole patches': model.pad,
        "it knows no distillation 'token' without a head": model.distillation == 'token',
        'only its plain ViT is distilled': (
            model.distillation == 'head'
            and (
                model.num_registers,
                model.norm_embeddings,
                model.norm_after_pooling,
                model.pooling,
                model.gated_mlp,
            )
            != (0, False, False, 'cls', False)
        ),
    }
    refuse(reasons)


def _base(model: ViT) -> str:
    """The architecture to start from: what `model_args` cannot say is as in its definition."""
    if model.distillation == 'head':
        return 'deit_base_distilled_patch16_224'
    if model.gated_mlp:
        return 'vit_giant_patch14_dinov2'
    # Of all norms alike theirs have an epsilon of 1e-6, or of 1e-5.
    return 'vit_base_patch16_clip_224' if model.norm_epsilon == 1e-5 else 'vit_base_patch16_224'
