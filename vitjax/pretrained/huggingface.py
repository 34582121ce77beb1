"""Hugging Face's ViT, DeiT, DINOv2 and DINOv2 with registers, as transformers writes them.

Names are read as the hub's files have them (transformers 4, and what 5 still writes), and as the
models of transformers 5 have them in memory. Positions of another grid are resampled its ways.
"""

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np
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

_PATCHES = 'embeddings.patch_embeddings.projection'
# Kind of the model -> the class that has a head. The kind is `model_type` in its config.json, and
# stands before all names but those of heads.
_CLASSES = {
    'vit': 'ViTForImageClassification',
    'deit': 'DeiTForImageClassification',
    'dinov2': 'Dinov2ForImageClassification',
    'dinov2_with_registers': 'Dinov2WithRegistersForImageClassification',
}
# Names in memory -> names in files.
_RENAMED = (
    (r'^layers\.', 'encoder.layer.'),
    (r'\.attention\.q_proj\.', '.attention.attention.query.'),
    (r'\.attention\.k_proj\.', '.attention.attention.key.'),
    (r'\.attention\.v_proj\.', '.attention.attention.value.'),
    (r'\.attention\.o_proj\.', '.attention.output.dense.'),
    (r'\.mlp\.down_proj\.', '.mlp.weights_out.'),
)
_RENAMED_MLP = ((r'\.mlp\.fc1\.', '.intermediate.dense.'), (r'\.mlp\.fc2\.', '.output.dense.'))

_ARGUMENTS = {
    'image_size': 'image_size',
    'patch_size': 'patch_size',
    'num_channels': 'in_channels',
    'hidden_size': 'width',
    'num_hidden_layers': 'depth',
    'num_attention_heads': 'num_heads',
    'intermediate_size': 'mlp_dim',
    'qkv_bias': 'qkv_bias',
    'layer_norm_eps': 'norm_epsilon',
    'num_register_tokens': 'num_registers',
    'use_swiglu_ffn': 'gated_mlp',
}
_ACTIVATIONS = {
    'gelu': 'gelu',
    'gelu_new': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'quick_gelu': 'quick_gelu',
    'silu': 'silu',
    'swish': 'silu',
}
_RESAMPLE = {0: 'nearest', 1: 'lanczos', 2: 'bilinear', 3: 'bicubic', 4: 'box', 5: 'hamming'}
# How published models of each kind see images, where no preprocessor_config.json says it.
_CENTRAL = IMAGENET | {'crop': 224 / 256, 'interpolation': 'bicubic'}
_PREPROCESS = {
    'vit': {
        'mean': (0.5,),
        'std': (0.5,),
        'crop': 1.0,
        'interpolation': 'bilinear',
        'squash': True,
    },
    'deit': _CENTRAL | {'squash': True},
    'dinov2': _CENTRAL,
    'dinov2_with_registers': _CENTRAL,
}


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of one of these models."""
    return any(f'{prefix}{_PATCHES}.weight' in checkpoint.tensors for prefix in _prefixes())


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `vitjax.pretrained.layouts`."""
    checkpoint = dataclasses.replace(checkpoint, tensors=_as_in_files(checkpoint.tensors))
    kind, names = _kind(checkpoint), checkpoint.tensors
    told = _tell(checkpoint, kind)
    config = {
        _ARGUMENTS[name]: value
        for name, value in checkpoint.config.items()
        if name in _ARGUMENTS and value is not None
    }
    if kind.startswith('dinov2'):
        config.pop('mlp_dim', None)  # theirs follows from a ratio
    activation = checkpoint.config.get('hidden_act', 'gelu')
    if activation not in _ACTIVATIONS:
        raise UserError(f'{checkpoint.place}: its config says hidden_act={activation!r}')
    if checkpoint.config.get('pooler_act', 'tanh') != 'tanh':
        raise UserError(f'{checkpoint.place}: its config says pooler_act other than tanh')
    known = {'activation': _ACTIVATIONS[activation]}
    known['norm_epsilon'] = 1e-6 if kind.startswith('dinov2') else 1e-12
    if checkpoint.config.get('model_type') == kind:
        known['num_heads'] = 12
    if told['gated_mlp']:
        known['activation'] = 'silu'
    if kind.startswith('dinov2'):
        known['layer_scale'] = checkpoint.config.get('layerscale_value', 1.0)
    rows = checkpoint.shape('embeddings.position_embeddings', 3)[1]
    placed = {'class': 1 + (kind == 'deit')}
    known |= square(rows, placed, told['patch_size'])
    arguments = settle(
        checkpoint,
        overrides,
        tensors=told,
        config=config,
        known=known,
        needed=['num_heads', 'image_size'],
    )
    find_grid(checkpoint, arguments, rows, placed)
    shapes = parameter_shapes('vit', arguments)
    params = read_table(_table(kind, arguments), names, shapes, checkpoint.place)
    labels = checkpoint.config.get('id2label', {})
    labels = tuple(labels.get(str(index), f'LABEL_{index}') for index in range(told['num_classes']))
    return Parts(
        'vit',
        arguments,
        params,
        _read_preprocess(checkpoint, kind),
        labels=None if all(name.startswith('LABEL_') for name in labels) else labels,
        resampling='cubic_antialias' if kind == 'dinov2_with_registers' else 'cubic',
    )


def write(pretrained: 'Pretrained') -> tuple[Tensors, dict[str, Any]]:
    """See `vitjax.pretrained.layouts`. Names are those of the hub's files."""
    model = pretrained.model
    kind = kind_for(model)
    dino = kind.startswith('dinov2')
    inner = model.mlp_dim or 4 * model.width
    params = flatten_dict(pretrained.variables['params'], sep='/')
    arguments = {'gated_mlp': model.gated_mlp, 'distillation': model.distillation}
    tensors = write_table(_table(kind, arguments), params, 'huggingface')
    if kind == 'dinov2_with_registers':
        # Theirs always has one; it stands for masked patches, which only its training has.
        tensors['embeddings.mask_token'] = np.zeros((1, model.width), np.float32)
    name = _CLASSES[kind]
    if not model.num_classes:
        name = name.replace('ForImageClassification', 'Model')
    elif model.distillation == 'head':
        name += 'WithTeacher'
    if model.num_classes:
        heads = ('classifier.', 'cls_classifier.', 'distillation_classifier.')
        tensors = {
            theirs if theirs.startswith(heads) else f'{kind}.{theirs}': tensor
            for theirs, tensor in tensors.items()
        }
    activations = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    config = {
        'architectures': [name],
        'model_type': kind,
        'dtype': 'float32',
        'image_size': _size(model.image_size),
        'patch_size': _size(model.patch_size),
        'num_channels': model.in_channels,
        'hidden_size': model.width,
        'num_hidden_layers': model.depth,
        'num_attention_heads': model.num_heads,
        'hidden_act': 'gelu' if model.gated_mlp else activations[model.activation],
        'layer_norm_eps': model.norm_epsilon,
        'qkv_bias': model.qkv_bias,
    }
    if dino:
        config['mlp_ratio'] = _mlp_ratio(model.width, inner, model.gated_mlp)
        config['use_swiglu_ffn'] = model.gated_mlp
        config['layerscale_value'] = model.layer_scale
    else:
        config['intermediate_size'] = inner
    if kind == 'dinov2':
        config['use_mask_token'] = False
    if model.num_registers:
        config['num_register_tokens'] = model.num_registers
    if model.representation_size:
        config |= {'pooler_output_size': model.representation_size, 'pooler_act': 'tanh'}
    if model.num_classes:
        names = pretrained.labels or [f'LABEL_{index}' for index in range(model.num_classes)]
        config['id2label'] = {str(index): label for index, label in enumerate(names)}
        config['label2id'] = {label: index for index, label in enumerate(names)}
    sidecars = {'config.json': config}
    sidecars['preprocessor_config.json'] = _write_preprocess(pretrained.preprocess)
    return tensors, sidecars


def _prefixes() -> list[str]:
    return ['', *(f'{kind}.' for kind in _CLASSES)]


def _as_in_files(tensors: Tensors) -> dict[str, np.ndarray]:
    """The tensors with the names of files, without prefix, and without the token of masked patches."""
    prefix = next(prefix for prefix in _prefixes() if f'{prefix}{_PATCHES}.weight' in tensors)
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    found.pop('embeddings.mask_token', None)
    dino = any('.norm1.' in name for name in found)
    for pattern, name in _RENAMED if dino else (*_RENAMED, *_RENAMED_MLP):
        found = {re.sub(pattern, name, key): tensor for key, tensor in found.items()}
    for name in [name for name in found if '.mlp.gate_proj.' in name]:
        up = found.pop(name.replace('gate_proj', 'up_proj'), None)
        if up is not None and up.shape == found[name].shape:
            joined = np.concatenate([found.pop(name), up])
            found[name.replace('gate_proj', 'weights_in')] = joined
    return found


def _kind(checkpoint: Checkpoint) -> str:
    names = checkpoint.tensors
    if 'embeddings.register_tokens' in names:
        return 'dinov2_with_registers'
    if 'encoder.layer.0.norm1.weight' in names:
        return 'dinov2'
    return 'deit' if 'embeddings.distillation_token' in names else 'vit'


def _tell(checkpoint: Checkpoint, kind: str) -> dict[str, Any]:
    """Constructor arguments that follow from names and shapes."""
    names, block = checkpoint.tensors, 'encoder.layer.0'
    width, in_channels, *patch = checkpoint.shape(f'{_PATCHES}.weight', 4)
    gated = f'{block}.mlp.weights_out.weight' in names
    out = 'output.dense'
    if kind.startswith('dinov2'):
        out = 'mlp.weights_out' if gated else 'mlp.fc2'
    told = {
        'patch_size': tuple(patch),
        'in_channels': in_channels,
        'num_classes': 0,
        'width': width,
        'depth': count_layers(names, 'encoder.layer.'),
        'mlp_dim': checkpoint.shape(f'{block}.{out}.weight', 2)[1],
        'gated_mlp': gated,
        'pooling': 'cls',
        'num_registers': 0,
        'positions': 'learned',
        'prefix_positions': 'class',
        'qkv_bias': f'{block}.attention.attention.query.bias' in names,
    }
    if kind == 'dinov2_with_registers':
        told['num_registers'] = checkpoint.shape('embeddings.register_tokens', 3)[1]
    if kind == 'deit':
        told['distillation'] = 'head' if 'cls_classifier.weight' in names else 'token'
    for head in ('classifier.weight', 'cls_classifier.weight'):
        if head in names:
            told['num_classes'], seen = checkpoint.shape(head, 2)
            told['pooling'] = 'cls_mean' if seen == 2 * width else 'cls'
    if 'pooler.dense.weight' in names:
        told['representation_size'] = checkpoint.shape('pooler.dense.weight', 2)[0]
    return told


def _table(kind: str, arguments: dict[str, Any]) -> list[Row]:
    """The names in files, see `vitjax.pretrained.names`."""
    block, blocks = 'encoder.layer.{i}', 'encoder/blocks'
    names = {'norm1': 'layernorm_before', 'norm2': 'layernorm_after'}
    names |= {'fc1': 'intermediate.dense', 'fc2': 'output.dense'}
    if kind.startswith('dinov2'):
        names = {'norm1': 'norm1', 'norm2': 'norm2', 'fc1': 'mlp.fc1', 'fc2': 'mlp.fc2'}
    hidden = ('hidden',)
    if arguments['gated_mlp']:
        names |= {'fc1': 'mlp.weights_in', 'fc2': 'mlp.weights_out'}
        hidden = ('gate', 'hidden')
    head = 'cls_classifier' if arguments.get('distillation') == 'head' else 'classifier'
    return [
        Row('embeddings.cls_token', 'class_token'),
        Row('embeddings.distillation_token', 'distillation_token'),
        Row('embeddings.register_tokens', 'register_tokens'),
        Row('embeddings.position_embeddings', 'positions'),
        *convolution(_PATCHES, 'patch_embedding'),
        *norm(f'{block}.{names["norm1"]}', f'{blocks}/attention_norm'),
        *attention(
            f'{blocks}/attention',
            {f'{block}.attention.attention.{part}': (part,) for part in ('query', 'key', 'value')},
            f'{block}.attention.output.dense',
        ),
        Row(f'{block}.layer_scale1.lambda1', f'{blocks}/attention_scale'),
        *norm(f'{block}.{names["norm2"]}', f'{blocks}/mlp_norm'),
        *dense(f'{block}.{names["fc1"]}', *(f'{blocks}/mlp/{name}' for name in hidden)),
        *dense(f'{block}.{names["fc2"]}', f'{blocks}/mlp/out'),
        Row(f'{block}.layer_scale2.lambda1', f'{blocks}/mlp_scale'),
        *norm('layernorm', 'norm'),
        *dense('pooler.dense', 'representation'),
        *dense(head, 'head'),
        *dense('distillation_classifier', 'distillation_head'),
    ]


def kind_for(model) -> str:
    """The kind that holds a model; UserError if none does."""
    if model.distillation != 'none':
        kind = 'deit'
    elif model.layer_scale is None:
        kind = 'vit'
    else:
        kind = 'dinov2_with_registers' if model.num_registers else 'dinov2'
    dino = kind.startswith('dinov2')
    pooling = 'cls_mean' if dino and model.num_classes else 'cls'
    reasons = {
        'it has no stem': model.stem_depths is not None,
        f'positions are learned, not {model.positions!r}': model.positions != 'learned',
        f'{kind} has pooling {pooling!r}, not {model.pooling!r}': model.pooling != pooling,
        'its class token has a position: load the weights with '
        "prefix_positions='class', which gives it one of 0": (
            model.positions == 'learned' and model.num_placed == 0
        ),
        'registers have no positions': model.num_placed > 1 + (kind == 'deit'),
        'tokens are normalised after the last block alone': (
            model.norm_embeddings or model.norm_after_pooling or model.qk_norm
        ),
        'its patch embedding has a bias': not model.patch_bias,
        'only DINOv2, which has layer_scale, has registers': model.num_registers and not dino,
        'only DINOv2, which has layer_scale, has a gated MLP': model.gated_mlp and not dino,
        "its gated MLP has the activation 'silu'": (model.gated_mlp and model.activation != 'silu'),
        'its pooler is of ViT and DeiT without head': (
            model.representation_size is not None and (model.num_classes or dino)
        ),
        "without head there is no distillation 'head'": (
            model.distillation == 'head' and not model.num_classes
        ),
        'it cuts the image into whole patches': model.pad,
        f'its MLP is a whole number of widths wide, not {model.mlp_dim}': (
            dino and not _mlp_ratio(model.width, model.mlp_dim or 4 * model.width, model.gated_mlp)
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f'huggingface cannot hold this model: {reason}')
    return kind


def _mlp_ratio(width: int, inner: int, gated: bool) -> int | None:
    """The whole `mlp_ratio` that makes DINOv2's hidden width, None if there is none."""
    for ratio in range(1, 2 * inner // width + 2):
        made = ratio * width
        if gated:
            made = (int(made * 2 / 3) + 7) // 8 * 8
        if made == inner:
            return ratio
    return None


def _size(size: int | tuple[int, int]) -> int | list[int]:
    height, width = as_pair(size)
    return height if height == width else [height, width]


def _read_preprocess(checkpoint: Checkpoint, kind: str) -> dict[str, Any]:
    """Of a preprocessor_config.json: resized to `size`, then the centre cut to `crop_size`."""
    facts = dict(_PREPROCESS[kind])
    stored = checkpoint.sidecars.get('preprocessor_config.json')
    if stored is None:
        return facts
    for ours, theirs in (('mean', 'image_mean'), ('std', 'image_std')):
        if stored.get(theirs) is not None:
            facts[ours] = stored[theirs]
    if not stored.get('do_normalize', True):
        facts |= {'mean': (0.0,), 'std': (1.0,)}
    if stored.get('resample') in _RESAMPLE:
        facts['interpolation'] = _RESAMPLE[stored['resample']]
    size, crop = (_longest(checkpoint, stored.get(name)) for name in ('size', 'crop_size'))
    resized = stored.get('size')
    facts['squash'] = not (isinstance(resized, dict) and 'shortest_edge' in resized)
    facts['crop'] = 1.0
    if stored.get('do_center_crop', kind != 'vit') and size and crop:
        facts['crop'] = crop / size
    return facts


def _longest(checkpoint: Checkpoint, size: Any) -> float | None:
    """The longer side of a size as they write it: a number, or an object."""
    sides = list(size.values()) if isinstance(size, dict) else [size]
    if not all(side is None or isinstance(side, (int, float)) for side in sides):
        raise UserError(f'{checkpoint.place}: preprocessor_config.json has the size {size}')
    return max((side for side in sides if side), default=None)


def _write_preprocess(preprocess) -> dict[str, Any]:
    height, width = preprocess.image_size
    longest = max(height, width)
    crops = preprocess.crop < 1 or not preprocess.squash
    size = {'shortest_edge': round(longest / preprocess.crop)}
    if preprocess.squash:
        size = {
            'height': round(height / preprocess.crop),
            'width': round(width / preprocess.crop),
        }
    numbers = {name: number for number, name in _RESAMPLE.items()}
    stored = {
        'image_processor_type': 'BitImageProcessor' if crops else 'ViTImageProcessor',
        'do_resize': True,
        'size': size,
        'resample': numbers[preprocess.interpolation],
        'do_center_crop': crops,
        'do_rescale': True,
        'rescale_factor': 1 / 255,
        'do_normalize': True,
        'image_mean': _each(preprocess.mean, preprocess.channels),
        'image_std': _each(preprocess.std, preprocess.channels),
    }
    if crops:
        stored['crop_size'] = {'height': height, 'width': width}
    return stored


def _each(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) * (channels if len(values) == 1 else 1)
