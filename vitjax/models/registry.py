"""The built-in model names, and the constructor of each."""

import fnmatch
import functools
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from vitjax import registry
from vitjax.errors import UserError, unknown
from vitjax.models.cnn import CNN
from vitjax.models.mae import MAE
from vitjax.models.resnet import ResNet
from vitjax.models.seq2seq import Transformer
from vitjax.models.vit import ViT

# Width, depth, heads, MLP width: Dosovitskiy et al. 2021 (table 1) for B, L, H; Steiner et al. 2022
# (table 2) for Ti, S; Zhai et al. 2022 (table 2) for g, G; Alabdulmohsin et al. 2023 for So400m;
# M as in google-research/big_vision. Only So400m's published count includes attention pooling.
_VIT_SIZES: dict[str, dict[str, Any]] = {
    'ti': dict(width=192, depth=12, num_heads=3, mlp_dim=768),
    's': dict(width=384, depth=12, num_heads=6, mlp_dim=1536),
    'm': dict(width=512, depth=12, num_heads=8, mlp_dim=2048),
    'b': dict(width=768, depth=12, num_heads=12, mlp_dim=3072),
    'l': dict(width=1024, depth=24, num_heads=16, mlp_dim=4096),
    'so400m': dict(width=1152, depth=27, num_heads=16, mlp_dim=4304, pooling='map'),
    'h': dict(width=1280, depth=32, num_heads=16, mlp_dim=5120),
    'g': dict(width=1408, depth=40, num_heads=16, mlp_dim=6144),
    'G': dict(width=1664, depth=48, num_heads=16, mlp_dim=8192),
}
_VIT_PATCHES = {
    'ti': (16,),
    's': (32, 16, 14, 8),
    'm': (32, 16),
    'b': (32, 28, 16, 14, 8),
    'l': (32, 16, 14),
    'so400m': (16, 14),
    'h': (16, 14),
    'g': (16, 14),
    'G': (14,),
}

_VITS = {
    f'vit_{size}{patch}': dict(_VIT_SIZES[size], patch_size=patch)
    for size, patches in _VIT_PATCHES.items()
    for patch in patches
}
# Size, patch in pixels of the image, blocks of the stem's stages: Steiner et al. 2022 (table 2)
# and google-research/vision_transformer (vit_jax/configs/models.py). "ti16" has 8x8 patches of the
# root's map, whose stride is 4: 32 pixels, as its published parameter count confirms.
_HYBRIDS = {
    name: dict(_VIT_SIZES[size], patch_size=patch, stem_depths=stem)
    for name, size, patch, stem in [
        ('r_vit_ti16', 'ti', 32, ()),
        ('r26_vit_s32', 's', 32, (2, 2, 2, 2)),
        ('r26_vit_b32', 'b', 32, (2, 2, 2, 2)),
        ('r50_vit_b16', 'b', 16, (3, 4, 9)),
        ('r50_vit_l32', 'l', 32, (3, 4, 6, 3)),
    ]
}
# What Steiner et al. 2022 published: the same models, trained with more augmentation and regularisation.
_AUGREG = {
    f'{name}_augreg': (_VITS | _HYBRIDS)[name]
    for name in (
        *('vit_ti16', 'vit_s32', 'vit_s16', 'vit_b32', 'vit_b16', 'vit_b8', 'vit_l16'),
        *('r_vit_ti16', 'r26_vit_s32', 'r50_vit_l32'),
    )
}
# Size -> patch, facebookresearch/mae (models_mae.py); all have the same decoder.
_MAES = {'b': 16, 'l': 16, 'h': 14}
# Sizes of our own.
_CNN_WIDTHS = {'ti': (16, 32, 64), 's': (32, 64, 128), 'm': (64, 128, 256)}

# The same sizes as their authors set them: Touvron et al. 2021 and 2022 (DeiT, DeiT III), Oquab et al.
# 2024 and Darcet et al. 2024 (DINOv2, with registers).
_DEIT = {
    f'deit_{size}16{suffix}': dict(
        _VIT_SIZES[size], patch_size=16, activation='gelu', distillation=distillation
    )
    for suffix, distillation in [('', 'none'), ('_distilled', 'head')]
    for size in ('ti', 's', 'b')
}
_DEIT3 = {
    f'deit3_{size}{patch}': dict(
        _VIT_SIZES[size],
        patch_size=patch,
        activation='gelu',
        prefix_positions='none',
        layer_scale=1e-6,
    )
    for size, patch in [('s', 16), ('m', 16), ('b', 16), ('l', 16), ('h', 14)]
}
_DINOV2_G: dict[str, Any] = dict(
    width=1536, depth=40, num_heads=24, mlp_dim=4096, activation='silu', gated_mlp=True
)
_DINOV2 = {
    f'dinov2_{size}14{suffix}': dict(
        dict(activation='gelu', **_VIT_SIZES[size]) if size != 'g' else _DINOV2_G,
        image_size=518,
        patch_size=14,
        num_classes=0,
        num_registers=num_registers,
        layer_scale=1e-5,
    )
    for suffix, num_registers in [('', 0), ('_reg4', 4)]
    for size in ('s', 'b', 'l', 'g')
}
# 'base' and 'big' are Vaswani et al. 2017 (table 3), with about 37,000 tokens of English and German
# together; 'tiny' and 'small' are our own.
_TRANSFORMERS: dict[str, dict[str, Any]] = {
    'tiny': dict(width=128, encoder_depth=2, decoder_depth=2, num_heads=4),
    'small': dict(width=256, encoder_depth=4, decoder_depth=4, num_heads=4),
    'base': dict(width=512, encoder_depth=6, decoder_depth=6, num_heads=8, vocab_size=37_000),
    'big': dict(width=1024, encoder_depth=6, decoder_depth=6, num_heads=16, vocab_size=37_000),
}

MODELS: dict[str, Callable[..., nn.Module]] = {
    'cnn': CNN,
    **{
        f'cnn_{size}': functools.partial(CNN, widths=widths) for size, widths in _CNN_WIDTHS.items()
    },
    **{
        f'cnn_spatial_attention_{size}': functools.partial(
            CNN, widths=widths, spatial_attention='sigmoid'
        )
        for size, widths in _CNN_WIDTHS.items()
    },
    'resnet': ResNet,
    'resnet18': functools.partial(ResNet, stage_depths=(2, 2, 2, 2), block='basic'),
    'resnet26': functools.partial(ResNet, stage_depths=(2, 2, 2, 2)),
    'resnet50': functools.partial(ResNet, stage_depths=(3, 4, 6, 3)),
    'vit': ViT,
    **{
        name: functools.partial(ViT, **settings)
        for family in (_VITS, _HYBRIDS, _AUGREG, _DEIT, _DEIT3, _DINOV2)
        for name, settings in family.items()
    },
    'mae': MAE,
    **{
        f'mae_{size}{patch}': functools.partial(MAE, patch_size=patch, **_VIT_SIZES[size])
        for size, patch in _MAES.items()
    },
    'transformer': Transformer,
    **{
        f'transformer_{size}': functools.partial(Transformer, **sizes)
        for size, sizes in _TRANSFORMERS.items()
    },
}


def list_models(pattern: str = '*') -> list[str]:
    """Names of the models that match a case-sensitive shell pattern, in order of size."""
    return [name for name in MODELS if fnmatch.fnmatchcase(name, pattern)]


def create_model(name: str | Callable[..., nn.Module], **overrides: Any) -> nn.Module:
    """Builds a model; every constructor argument can be overridden.

    Args:
      name: a built-in name, an import path 'package.module:Attr' of a module class, or the class.
      overrides: arguments of its constructor.

    >>> create_model('vit_s16', image_size=(32, 48), patch_size=(4, 8)).width
    384

    Raises:
      UserError: unknown name or argument (names the nearest), or values that are not allowed.
    """
    kind = registry.find('model', name)
    shown = name if isinstance(name, str) else getattr(kind, 'func', kind).__name__
    known = registry.parameters(kind)
    for argument in overrides:
        if argument not in known:
            raise unknown(f'argument of {shown}', argument, known.keys() - {'parent', 'name'})
    try:
        model = kind(**overrides)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f'{shown}: {error}') from error
    if not isinstance(model, nn.Module):
        raise UserError(f'{shown} returned a {type(model).__name__}, not a Flax Linen module')
    return model
