"""Hugging Face's config.json and preprocessor_config.json: reading them, and writing those of a model."""

import math
from typing import Any

from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError
from vitjax.layers.mlp import TRANSFORMERS_ACTIVATIONS
from vitjax.layers.patches import as_pair
from vitjax.models.mae import MAE
from vitjax.models.vit import ViT
from vitjax.pretrained.layouts.base import Checkpoint, refuse
from vitjax.pretrained.layouts.pytorch import IMAGENET
from vitjax.pretrained.model import Pretrained

# Kind of the model -> the class that has a head. The kind is `model_type` in its config.json, and
# stands before all names but those of heads.
CLASSES = {
    'vit': 'ViTForImageClassification',
    'deit': 'DeiTForImageClassification',
    'dinov2': 'Dinov2ForImageClassification',
    'dinov2_with_registers': 'Dinov2WithRegistersForImageClassification',
}
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
# A ViT has no 'relu'.
_ACTIVATIONS = {name: ours for name, ours in TRANSFORMERS_ACTIVATIONS.items() if ours != 'relu'}
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
    'vit_mae': IMAGENET | {'crop': 1.0, 'interpolation': 'bicubic', 'squash': True},
}


def read_config(checkpoint: Checkpoint, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments from config.json, and the defaults of this kind: see `resolve_model_args`."""
    said = checkpoint.config.get('model_type', kind)
    if said != kind and (said, kind) != ('vit_mae', 'vit'):  # its encoder alone is a ViT's
        raise UserError(
            f'{checkpoint.place}: its config says {said!r}, the tensors are of {kind!r}'
        )
    config = {
        _ARGUMENTS[name]: value
        for name, value in checkpoint.config.items()
        if name in _ARGUMENTS and value is not None
    }
    if kind.startswith('dinov2'):
        config.pop('mlp_dim', None)  # theirs follows from a ratio
    activation = checkpoint.config.get('hidden_act', 'gelu')
    if activation not in _ACTIVATIONS:
        raise UserError(
            f'{checkpoint.place}: its config says hidden_act={activation!r}; '
            f'known: {", ".join(_ACTIVATIONS)}'
        )
    if checkpoint.config.get('pooler_act', 'tanh') != 'tanh':
        raise UserError(f'{checkpoint.place}: its config says pooler_act other than tanh')
    known = {'activation': _ACTIVATIONS[activation]}
    known['norm_epsilon'] = 1e-6 if kind.startswith('dinov2') else 1e-12
    if checkpoint.config.get('model_type') == kind:
        known['num_heads'] = 12
    return config, known


def read_labels(checkpoint: Checkpoint, num_classes: int) -> tuple[str, ...] | None:
    """Names of the classes, None if the config.json has none but the numbers that transformers gives."""
    names = checkpoint.config.get('id2label')
    if not names or not num_classes:
        return None
    if len(names) != num_classes:
        raise UserError(
            f'{checkpoint.place}: its config names {len(names)} classes, the tensors have {num_classes}'
        )
    labels = tuple(names.get(str(index), f'LABEL_{index}') for index in range(num_classes))
    return None if all(name.startswith('LABEL_') for name in labels) else labels


def write_config(pretrained: Pretrained, kind: str) -> dict[str, Any]:
    """The config.json of a model of this kind."""
    model = pretrained.model
    dino = kind.startswith('dinov2')
    inner = model.mlp_dim or 4 * model.width
    config = common_config(model, kind, class_for(model, kind)) | {'qkv_bias': model.qkv_bias}
    if model.gated_mlp:
        config['hidden_act'] = 'gelu'
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
    if has_head(model, kind):
        names = pretrained.labels or [f'LABEL_{index}' for index in range(model.num_classes)]
        config['id2label'] = {str(index): label for index, label in enumerate(names)}
        config['label2id'] = {label: index for index, label in enumerate(names)}
    return config


def common_config(model: ViT | MAE, kind: str, name: str) -> dict[str, Any]:
    """What the config.json of every kind says; `name` is that of their class."""
    activations = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    return {
        'architectures': [name],
        'model_type': kind,
        'dtype': 'float32',
        'image_size': _size(model.image_size),
        'patch_size': _size(model.patch_size),
        'num_channels': model.in_channels,
        'hidden_size': model.width,
        'num_hidden_layers': model.depth,
        'num_attention_heads': model.num_heads,
        'hidden_act': activations[model.activation],
        'layer_norm_eps': model.norm_epsilon,
    }


def kind_for(model: ViT) -> str:
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
        f"its positions are {model.positions!r}, not 'learned'": model.positions != 'learned',
        f"its pooling is {model.pooling!r}, that of {kind} is {pooling!r}; transformers' "
        'AutoModelForImageClassification reads the format timm too': model.pooling != pooling,
        "registers have no positions: load the weights with prefix_positions='none', which adds "
        'positions to these tokens': model.num_placed > 1 + (kind == 'deit'),
        'tokens are normalised after the last block alone': (
            model.norm_embeddings or model.norm_after_pooling or model.qk_norm
        ),
        'its patch embedding has a bias': not model.patch_bias,
        'only DINOv2, which has layer_scale, has registers': model.num_registers and not dino,
        'only DINOv2, which has layer_scale, has a gated MLP': model.gated_mlp and not dino,
        'it has no layer_scale in distilled models': (
            kind == 'deit' and model.layer_scale is not None
        ),
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
    refuse(reasons)
    return kind


def class_for(model: ViT, kind: str) -> str:
    """The class that has just the tensors of a model."""
    name = CLASSES[kind]
    if not has_head(model, kind):
        return name.replace('ForImageClassification', 'Model')
    return name + ('WithTeacher' if model.distillation == 'head' else '')


def has_head(model: ViT, kind: str) -> bool:
    """Whether it is the class with a head; of no classes where the one without would have a pooler."""
    return model.num_classes > 0 or not (model.representation_size or kind.startswith('dinov2'))


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


def read_preprocess(checkpoint: Checkpoint, kind: str) -> dict[str, Any]:
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
    # Theirs are of pixels times a factor, ours of pixels from 0 to 1.
    factor = stored.get('rescale_factor', 1 / 255) if stored.get('do_rescale', True) else 1
    if not isinstance(factor, (int, float)) or factor <= 0:
        raise UserError(
            f'{checkpoint.place}: preprocessor_config.json has the rescale_factor {factor}'
        )
    scale = 255 * factor
    if not math.isclose(scale, 1):
        facts |= {name: [value / scale for value in facts[name]] for name in ('mean', 'std')}
    if stored.get('resample') in _RESAMPLE:
        facts['interpolation'] = _RESAMPLE[stored['resample']]
    size, crop = (_longest(checkpoint, stored.get(name)) for name in ('size', 'crop_size'))
    resized = stored.get('size')
    facts['squash'] = not (isinstance(resized, dict) and 'shortest_edge' in resized)
    facts['crop'] = 1.0
    if stored.get('do_center_crop', not kind.startswith('vit')) and size and crop:
        facts['crop'] = crop / size
    return facts


def _longest(checkpoint: Checkpoint, size: Any) -> float | None:
    """The longer side of a size as they write it: a number, or an object."""
    sides = list(size.values()) if isinstance(size, dict) else [size]
    if not all(side is None or isinstance(side, (int, float)) for side in sides):
        raise UserError(f'{checkpoint.place}: preprocessor_config.json has the size {size}')
    return max((side for side in sides if side), default=None)


def write_preprocess(preprocess: Preprocess) -> dict[str, Any]:
    """The preprocessor_config.json; sizes before the cut are whole numbers there, so crops are rounded."""
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
