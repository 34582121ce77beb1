"""Meta's original checkpoints: DINOv2, DeiT III, and what was fine-tuned with the code of DeiT and MAE.

Their names are timm's but for a few, often with a prefix of a wrapper before them. A plain file of DeiT,
whose names are all timm's, is read as one of timm. The layout `mae` reads files of MAE's pre-training.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from vitjax.errors import UserError
from vitjax.pretrained.layouts import timm
from vitjax.pretrained.layouts.base import Checkpoint, Layout, Parts
from vitjax.pretrained.layouts.names import renamed
from vitjax.pretrained.layouts.pytorch import IMAGENET

_PATCHES = 'patch_embed.proj.weight'
# Wrappers: whole checkpoints of a training, DDP's `module`, torch.compile's `_orig_mod`.
PREFIX = re.compile(r'((teacher|student|model|state_dict|module|backbone|_orig_mod)\.)*')
_RENAMED = (
    (r'^blocks\.\d+\.(\d+\.)', r'blocks.\1'),  # FSDP's chunks; blocks are numbered through
    (r'\.mlp\.w12\.', '.mlp.fc1.'),
    (r'\.mlp\.w3\.', '.mlp.fc2.'),
    (r'\.gamma_([12])$', r'.ls\1.gamma'),
    (r'^register_tokens$', 'reg_token'),
    (r'^linear_head\.', 'head.'),
)
_UNUSED = {'mask_token'}  # of DINOv2, stands for masked patches in its training
# Width -> heads of all that was published.
HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16, 1536: 24}
PREPROCESS = IMAGENET | {'crop': 224 / 256, 'interpolation': 'bicubic'}


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the names are Meta's own, not just timm's."""
    tensors = checkpoint.tensors
    if any(name.endswith('decoder_embed.weight') for name in tensors):
        return False
    return any(
        name.endswith(_PATCHES) and PREFIX.fullmatch(name[: -len(_PATCHES)]) for name in tensors
    ) and (
        _PATCHES not in tensors
        or any(re.search(pattern, name) for name in tensors for pattern, _ in _RENAMED)
        or not _UNUSED.isdisjoint(tensors)
    )


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `Layout`. It takes a square image unless told, and heads as published."""
    dino = any(name.endswith('mask_token') for name in checkpoint.tensors)
    checkpoint = dataclasses.replace(checkpoint, tensors=_as_in_timm(checkpoint))
    told = timm.tell(checkpoint)
    registers = told['num_registers'] > 0
    dino = dino or registers
    if 'head.weight' in checkpoint.tensors:
        seen = checkpoint.shape('head.weight', 2)[1]
        if seen == 2 * told['width']:
            told['pooling'] = 'cls_mean'
        elif seen != told['width']:
            raise UserError(
                f'{checkpoint.place}: the head sees {seen} features of several blocks; '
                'the one of the last block has twice the width'
            )
    return timm.read_tensors(
        checkpoint,
        overrides,
        told,
        config={},
        known={'num_heads': HEADS.get(told['width'])},
        placed=('class',) if registers else ('all', 'none'),
        preprocess=PREPROCESS,
        resampling=('cubic_antialias' if registers else 'cubic_offset') if dino else 'cubic',
    )


def _as_in_timm(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The tensors with the names that timm has for them, without wrapper; of two models the teacher."""
    tensors = checkpoint.tensors
    prefixes = [name[: -len(_PATCHES)] for name in tensors if name.endswith(_PATCHES)]
    prefix = min(prefixes, key=lambda prefix: ('teacher' not in prefix, len(prefix)))
    outer = prefix.removesuffix('backbone.')
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
        elif name.startswith(f'{outer}linear_head.'):
            name = name.removeprefix(outer)
        else:
            continue
        found[name] = tensor
    found = renamed(found, _RENAMED)
    return {name: tensor for name, tensor in found.items() if name not in _UNUSED}


LAYOUT = Layout('meta', recognises, read)
