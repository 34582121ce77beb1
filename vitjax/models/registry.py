"""The names of the models, and what each builds."""

import fnmatch
import functools
import inspect
from collections.abc import Callable

from flax import linen as nn

from vitjax.errors import UserError, unknown
from vitjax.models.vit import ViT

# Width, depth, heads, MLP width: Dosovitskiy et al. 2021 (table 1) for B, L, H; Steiner et al. 2022
# (table 2) for Ti, S; Zhai et al. 2022 (table 2) for g, G; Alabdulmohsin et al. 2023 for So400m;
# M as in google-research/big_vision. Only So400m's published count includes attention pooling.
_VIT_SIZES = {
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

MODELS: dict[str, Callable[..., nn.Module]] = {
    'vit': ViT,
    **{
        f'vit_{size}{patch}': functools.partial(ViT, patch_size=patch, **_VIT_SIZES[size])
        for size, patches in _VIT_PATCHES.items()
        for patch in patches
    },
}


def list_models(pattern: str = '*') -> list[str]:
    """Names of the models that match a shell pattern, upper and lower case apart, in order of size."""
    return [name for name in MODELS if fnmatch.fnmatchcase(name, pattern)]


def create_model(name: str, **overrides) -> nn.Module:
    """Builds a model by name; every constructor argument can be overridden.

    >>> create_model('vit_s16', image_size=(32, 48), patch_size=(4, 8)).width
    384

    Raises:
      UserError: unknown name or argument (names the nearest), or values that do not fit together.
    """
    if name not in MODELS:
        raise unknown('model', name, MODELS)
    known = inspect.signature(MODELS[name]).parameters
    for argument in overrides:
        if argument not in known:
            raise unknown(f'argument of {name}', argument, known.keys() - {'parent', 'name'})
    try:
        return MODELS[name](**overrides)
    except (TypeError, ValueError) as error:
        raise UserError(f'{name}: {error}') from error
