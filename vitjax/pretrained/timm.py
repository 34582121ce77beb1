"""timm's Vision Transformers: `VisionTransformer` and its distilled kind, alone or in a hub's folder.

Google's and Meta's weights that timm hands out compute here what they compute there: with the exact
GELU, and positions resampled its way.
"""

import logging
import re
from typing import TYPE_CHECKING, Any

from flax.traverse_util import flatten_dict

from vitjax.errors import UserError
from vitjax.layers.patches import as_pair
from vitjax.pretrained.files import Tensors
from vitjax.pretrained.layouts import Checkpoint, Parts, parameter_shapes, settle
from vitjax.pretrained.names import Row, count_layers, read_table, write_table
from vitjax.pretrained.pytorch import (
    IMAGENET,
    attention,
    convolution,
    dense,
    find_grid,
    norm,
    square,
)

if TYPE_CHECKING:
    from vitjax.pretrained.pretrained import Pretrained

WEIGHTS = 'model.safetensors'

_PREPROCESS = IMAGENET | {'crop': 0.875, 'interpolation': 'bicubic'}  # what timm takes by default
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


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the names are timm's."""
    return {'patch_embed.proj.weight', 'blocks.0.norm1.weight'} <= checkpoint.tensors.keys()


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `vitjax.pretrained.layouts`; without a config.json it takes a square image."""
    told = tell(checkpoint)
    if not checkpoint.config:
        logging.getLogger(__name__).warning(
            '%s does not tell its preprocessing: taking mean %s and std %s; '
            'say mean=... and std=... when loading if they are others',
            checkpoint.place,
            _PREPROCESS['mean'],
            _PREPROCESS['std'],
        )
    config, labels, preprocess = _read_config(checkpoint)
    return read_tensors(
        checkpoint,
        overrides,
        told,
        config=config,
        known=_architecture(checkpoint, told['width']),
        preprocess=preprocess,
        labels=labels,
    )


def read_tensors(
    checkpoint: Checkpoint,
    overrides: dict[str, Any],
    told: dict[str, Any],
    *,
    config: dict[str, Any],
    known: dict[str, Any],
    placed: tuple[str, ...] = ('all', 'none'),
    **parts: Any,
) -> Parts:
    """Reads tensors with timm's names.

    Args:
      told: what `tell` found.
      config, known: see `settle`.
      placed: values of `prefix_positions` that may be.
      parts: the rest of `Parts`.
    """
    names = checkpoint.tensors
    tokens = told['class_token'] + told['distillation_token']
    counts = {'all': tokens + told['num_registers'], 'class': tokens, 'none': 0}
    if not told['num_registers']:
        placed = tuple('class' if name == 'all' else name for name in placed)
    counts = {name: counts[name] for name in placed}
    rows = checkpoint.shape('pos_embed', 3)[1] if 'pos_embed' in names else None
    if rows:
        known = square(rows, counts, told['patch_size']) | known
    known = {'activation': 'silu' if told['gated_mlp'] else 'gelu', 'norm_epsilon': 1e-6} | known
    pooling = 'cls' if told['class_token'] and not told['norm_after_pooling'] else 'mean'
    known = {'pooling': pooling, 'pool_prefix': False} | known
    if 'blocks.0.ls1.gamma' in names:
        known = {'layer_scale': 1e-5} | known
    del told['distillation_token']
    needed = ['num_heads', 'image_size']
    arguments = settle(
        checkpoint, overrides, tensors=told, config=config, known=known, needed=needed
    )
    if arguments['pooling'] in ('cls', 'cls_mean'):
        arguments['pool_prefix'] = None
    if rows:
        find_grid(checkpoint, arguments, rows, counts)
    shapes = parameter_shapes('vit', arguments)
    table = _table(arguments['gated_mlp'], arguments['norm_after_pooling'])
    params = read_table(table, names, shapes, checkpoint.place)
    return Parts('vit', arguments, params, **parts)


def write(pretrained: 'Pretrained') -> tuple[Tensors, dict[str, Any]]:
    """See `vitjax.pretrained.layouts`. The config.json has every argument that timm's constructor takes."""
    model = pretrained.model
    check_holds(model)
    params = flatten_dict(pretrained.variables['params'], sep='/')
    tensors = write_table(_table(model.gated_mlp, model.norm_after_pooling), params, 'timm')
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
            'crop_pct': facts['crop'],
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
    return tensors, {'config.json': config}


def tell(checkpoint: Checkpoint) -> dict[str, Any]:
    """Constructor arguments that follow from names and shapes."""
    names = checkpoint.tensors
    width, in_channels, *patch = checkpoint.shape('patch_embed.proj.weight', 4)
    hidden, inner = (checkpoint.shape(f'blocks.0.mlp.fc{n}.weight', 2)[n - 1] for n in (1, 2))
    registers = checkpoint.shape('reg_token', 3)[1] if 'reg_token' in names else 0
    told = {
        'patch_size': tuple(patch),
        'in_channels': in_channels,
        'num_classes': checkpoint.shape('head.weight', 2)[0] if 'head.weight' in names else 0,
        'width': width,
        'depth': count_layers(names, 'blocks.'),
        'mlp_dim': inner,
        'gated_mlp': hidden == 2 * inner,
        'class_token': 'cls_token' in names,
        'distillation_token': 'dist_token' in names,
        'distillation': 'none',
        'num_registers': registers,
        'patch_bias': 'patch_embed.proj.bias' in names,
        'positions': 'learned' if 'pos_embed' in names else 'none',
        'norm_embeddings': 'norm_pre.weight' in names,
        'norm_after_pooling': 'fc_norm.weight' in names,
        'qkv_bias': 'blocks.0.attn.qkv.bias' in names,
        'qk_norm': 'blocks.0.attn.q_norm.weight' in names,
    }
    if told['distillation_token']:
        told['distillation'] = 'head' if 'head_dist.weight' in names else 'token'
    if 'attn_pool.latent' in names:
        told['pooling'] = 'map'
    if told['qk_norm']:
        told['num_heads'] = width // checkpoint.shape('blocks.0.attn.q_norm.weight', 1)[0]
    return told


def _table(gated: bool, norm_after_pooling: bool) -> list[Row]:
    """The names, see `vitjax.pretrained.names`."""
    block, blocks = 'blocks.{i}', 'encoder/blocks'
    hidden = ('gate', 'hidden') if gated else ('hidden',)
    return [
        Row('cls_token', 'class_token'),
        Row('dist_token', 'distillation_token'),
        Row('reg_token', 'register_tokens'),
        Row('pos_embed', 'positions'),
        *convolution('patch_embed.proj', 'patch_embedding'),
        *norm('norm_pre', 'embedding_norm'),
        *norm('fc_norm' if norm_after_pooling else 'norm', 'norm'),
        *norm(f'{block}.norm1', f'{blocks}/attention_norm'),
        *attention(
            f'{blocks}/attention',
            {f'{block}.attn.qkv': ('query', 'key', 'value')},
            f'{block}.attn.proj',
        ),
        *norm(f'{block}.attn.q_norm', f'{blocks}/attention/query_norm'),
        *norm(f'{block}.attn.k_norm', f'{blocks}/attention/key_norm'),
        Row(f'{block}.ls1.gamma', f'{blocks}/attention_scale'),
        *norm(f'{block}.norm2', f'{blocks}/mlp_norm'),
        *dense(f'{block}.mlp.fc1', *(f'{blocks}/mlp/{name}' for name in hidden)),
        *dense(f'{block}.mlp.fc2', f'{blocks}/mlp/out'),
        Row(f'{block}.ls2.gamma', f'{blocks}/mlp_scale'),
        Row('attn_pool.latent', 'attention_pooling/probe_token'),
        *attention(
            'attention_pooling/attention',
            {'attn_pool.q': ('query',), 'attn_pool.kv': ('key', 'value')},
            'attn_pool.proj',
        ),
        *norm('attn_pool.norm', 'attention_pooling/mlp_norm'),
        *dense('attn_pool.mlp.fc1', 'attention_pooling/mlp/hidden'),
        *dense('attn_pool.mlp.fc2', 'attention_pooling/mlp/out'),
        *dense('head', 'head'),
        *dense('head_dist', 'distillation_head'),
    ]


def _read_config(checkpoint: Checkpoint) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """What the config.json tells: constructor arguments, labels, preprocessing."""
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
                raise UserError(f'{checkpoint.place}: its config says {name}={said[name]!r}')
        if name in _ARGUMENTS and value is not None:
            arguments[_ARGUMENTS[name]] = value
    if len(data.get('input_size', ())) == 3:
        arguments = {'image_size': data['input_size'][1:]} | arguments
    labels = config.get('label_names') or data.get('label_names')
    preprocess = _PREPROCESS | {
        ours: data[theirs]
        for theirs, ours in [('mean', 'mean'), ('std', 'std'), ('crop_pct', 'crop')]
        if theirs in data
    }
    if 'interpolation' in data:
        preprocess['interpolation'] = data['interpolation']
    preprocess['squash'] = data.get('crop_mode') == 'squash'
    return arguments, tuple(labels) if labels else None, preprocess


def _architecture(checkpoint: Checkpoint, width: int) -> dict[str, Any]:
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


def check_holds(model) -> None:
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
            )
            != (0, False, False, 'cls')
        ),
        'positions are of all tokens before the patches or of none: load the weights with '
        "prefix_positions='none', which adds positions to these tokens": (
            model.positions == 'learned' and model.num_placed not in (0, sum(model.prefix.values()))
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f'timm cannot hold this model: {reason}')
    _base(model)


def _base(model) -> str:
    """The architecture to start from: what `model_args` cannot say is as in its definition."""
    name = {
        (False, False, 1e-6): 'vit_base_patch16_224',
        (False, False, 1e-5): 'vit_base_patch16_clip_224',
        (False, True, 1e-6): 'vit_giant_patch14_dinov2',
        (True, False, 1e-6): 'deit_base_distilled_patch16_224',
    }.get((model.distillation == 'head', model.gated_mlp, model.norm_epsilon))
    if name is None:
        raise UserError(
            f'timm cannot hold this model: norm_epsilon={model.norm_epsilon} is in none of its '
            'architectures of this kind (1e-6; without gated MLP or distillation also 1e-5)'
        )
    return name
