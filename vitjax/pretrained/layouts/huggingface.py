"""Hugging Face's ViT, DeiT, DINOv2 and DINOv2 with registers, as transformers writes them.

Names are read as the hub's files have them (transformers 4, and what 5 still writes), and as the
models of transformers 5 have them in memory. Positions of another grid are resampled its ways.
"""

import dataclasses
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from vitjax.models.vit import ViT
from vitjax.pretrained.equivalents import with_head_on_mean_too, with_position_table
from vitjax.pretrained.files import Tensors
from vitjax.pretrained.layouts.base import (
    Checkpoint,
    Layout,
    Parts,
    parameter_shapes,
    resolve_model_args,
)
from vitjax.pretrained.layouts.huggingface_config import (
    CLASSES,
    has_head,
    kind_for,
    read_config,
    read_labels,
    read_preprocess,
    write_config,
    write_preprocess,
)
from vitjax.pretrained.layouts.names import Row, count_layers, read_table, renamed, write_table
from vitjax.pretrained.layouts.pytorch import (
    attention,
    convolution,
    dense,
    find_grid,
    guess_size,
    norm,
)
from vitjax.pretrained.model import Pretrained

_PATCHES = 'embeddings.patch_embeddings.projection'
# Names in memory -> names in files.
_RENAMED = (
    (r'(^|\.)layers\.', r'\1encoder.layer.'),
    (r'\.attention\.q_proj\.', '.attention.attention.query.'),
    (r'\.attention\.k_proj\.', '.attention.attention.key.'),
    (r'\.attention\.v_proj\.', '.attention.attention.value.'),
    (r'\.attention\.o_proj\.', '.attention.output.dense.'),
    (r'\.mlp\.down_proj\.', '.mlp.weights_out.'),
)
_RENAMED_MLP = ((r'\.mlp\.fc1\.', '.intermediate.dense.'), (r'\.mlp\.fc2\.', '.output.dense.'))
RENAMED_VIT = (*_RENAMED, *_RENAMED_MLP)


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of one of these models."""
    return any(f'{prefix}{_PATCHES}.weight' in checkpoint.tensors for prefix in _prefixes())


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `Layout`."""
    checkpoint = dataclasses.replace(checkpoint, tensors=_as_in_files(checkpoint.tensors))
    kind, names = _kind(checkpoint), checkpoint.tensors
    told = _tell(checkpoint, kind)
    config, known = read_config(checkpoint, kind)
    if told['gated_mlp']:
        known['activation'] = 'silu'
    if kind.startswith('dinov2'):
        known['layer_scale'] = checkpoint.config.get('layerscale_value', 1.0)
    rows = checkpoint.shape('embeddings.position_embeddings', 3)[1]
    placed = {'class': 1 + (kind == 'deit')}
    known |= guess_size(rows, placed, told['patch_size'], overrides)
    arguments = resolve_model_args(
        checkpoint,
        overrides,
        tensors=told,
        config=config,
        known=known,
        needed=['num_heads', 'image_size'],
    )
    find_grid(checkpoint, arguments, rows, placed)
    shapes = parameter_shapes('vit', arguments)
    params = read_table(table(kind, arguments), names, shapes, checkpoint.place)
    return Parts(
        'vit',
        arguments,
        params,
        read_preprocess(checkpoint, kind),
        labels=read_labels(checkpoint, told['num_classes']),
        resampling='cubic_antialias' if kind == 'dinov2_with_registers' else 'cubic',
    )


def to_equivalent(pretrained: Pretrained) -> Pretrained:
    """With a position of the class token; DINOv2's with a head that sees the mean of the patches too."""
    model = pretrained.model
    dino = model.layer_scale is not None and model.distillation == 'none'
    if dino and model.num_classes and model.pooling == 'cls' and not model.representation_size:
        pretrained = with_head_on_mean_too(pretrained)
    return with_position_table(pretrained, 'class')


def write(pretrained: Pretrained) -> tuple[Tensors, dict[str, Any]]:
    """See `Layout`. Names are those of the hub's files."""
    model = pretrained.model
    kind = kind_for(model)
    params = flatten_dict(pretrained.variables['params'], sep='/')
    arguments = {'gated_mlp': model.gated_mlp, 'distillation': model.distillation}
    tensors = write_table(table(kind, arguments), params, 'huggingface')
    if kind == 'dinov2_with_registers':
        # Theirs always has one; it stands for masked patches, which only its training has.
        tensors['embeddings.mask_token'] = np.zeros((1, model.width), np.float32)
    if has_head(model, kind):
        heads = ('classifier.', 'cls_classifier.', 'distillation_classifier.')
        tensors = {
            theirs if theirs.startswith(heads) else f'{kind}.{theirs}': tensor
            for theirs, tensor in tensors.items()
        }
    return tensors, {
        'config.json': write_config(pretrained, kind),
        'preprocessor_config.json': write_preprocess(pretrained.preprocess),
    }


def _prefixes() -> list[str]:
    return ['', *(f'{kind}.' for kind in CLASSES)]


def _as_in_files(tensors: Tensors) -> dict[str, np.ndarray]:
    """The tensors with the names of files, without prefix, and without the token of masked patches."""
    prefix = next(prefix for prefix in _prefixes() if f'{prefix}{_PATCHES}.weight' in tensors)
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    found.pop('embeddings.mask_token', None)
    dino = any('.norm1.' in name for name in found)
    found = renamed(found, _RENAMED if dino else RENAMED_VIT)
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


def table(kind: str, arguments: dict[str, Any]) -> list[Row]:
    """The names in files, see `vitjax.pretrained.layouts.names`."""
    head = 'cls_classifier' if arguments.get('distillation') == 'head' else 'classifier'
    return [
        Row('embeddings.cls_token', 'class_token'),
        Row('embeddings.distillation_token', 'distillation_token'),
        Row('embeddings.register_tokens', 'register_tokens'),
        Row('embeddings.position_embeddings', 'positions'),
        *convolution(_PATCHES, 'patch_embedding'),
        *block_rows(kind, arguments['gated_mlp'], 'encoder.layer.{i}', 'encoder/blocks'),
        *norm('layernorm', 'norm'),
        *dense('pooler.dense', 'representation'),
        *dense(head, 'head'),
        *dense('distillation_classifier', 'distillation_head'),
    ]


def block_rows(kind: str, gated: bool, block: str, blocks: str) -> list[Row]:
    """Rows of the blocks of a stack: their name of one, and our path of all."""
    names = {'norm1': 'layernorm_before', 'norm2': 'layernorm_after'}
    names |= {'fc1': 'intermediate.dense', 'fc2': 'output.dense'}
    if kind.startswith('dinov2'):
        names = {'norm1': 'norm1', 'norm2': 'norm2', 'fc1': 'mlp.fc1', 'fc2': 'mlp.fc2'}
    hidden = ('hidden',)
    if gated:
        names |= {'fc1': 'mlp.weights_in', 'fc2': 'mlp.weights_out'}
        hidden = ('gate', 'hidden')
    return [
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
    ]


LAYOUT = Layout(
    'huggingface', recognises, read, 'model.safetensors', {'huggingface': ViT}, write, to_equivalent
)
