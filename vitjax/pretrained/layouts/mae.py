"""Masked autoencoders with their decoder: Hugging Face's ViTMAEForPreTraining and Meta's original files.

Hugging Face's names are read as the hub's files have them (transformers 4), as models of transformers 5
have them in memory, and as 5.23 and later write them, where the blocks of the decoder are
`decoder_encoder.layer`. Files hold the tables of positions too, which are computed here: another table
than the sine-cosine one is refused.

Source: He et al. 2022; names and epsilon of Meta's from facebookresearch/mae, models_mae.py.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from vitjax.errors import UserError
from vitjax.layers.patches import as_pair, grid_size
from vitjax.models.mae import MAE
from vitjax.pretrained.equivalents import position_table
from vitjax.pretrained.files import Tensors
from vitjax.pretrained.layouts import huggingface, meta, timm
from vitjax.pretrained.layouts.base import (
    Checkpoint,
    Layout,
    Parts,
    check_grid,
    parameter_shapes,
    resolve_model_args,
)
from vitjax.pretrained.layouts.huggingface_config import (
    common_config,
    read_config,
    read_preprocess,
    write_preprocess,
)
from vitjax.pretrained.layouts.names import (
    Row,
    count_layers,
    read_table,
    renamed,
    under,
    write_table,
)
from vitjax.pretrained.layouts.pytorch import dense, guess_size, norm
from vitjax.pretrained.model import Pretrained

_KIND = 'vit_mae'
_OF_HUGGINGFACE = 'decoder.decoder_embed.weight'
_OF_META = 'decoder_blocks.0.norm1.weight'
_RENAMED = (
    *huggingface.RENAMED_VIT,
    (r'^decoder\.decoder_encoder\.layer\.', 'decoder.decoder_layers.'),
)
# Their arguments of the constructor beside those of a ViT, and ours.
_ARGUMENTS = {
    'decoder_hidden_size': 'decoder_width',
    'decoder_num_hidden_layers': 'decoder_depth',
    'decoder_num_attention_heads': 'decoder_num_heads',
    'decoder_intermediate_size': 'decoder_mlp_dim',
    'mask_ratio': 'mask_ratio',
    'norm_pix_loss': 'norm_pixels',
}
_DECODER_HEADS = {512: 16}  # width -> heads of those that Meta published
_TOLERANCE = 1e-5  # of positions, which are at most 1


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether there is a decoder with the names of Hugging Face's or Meta's."""
    return _OF_HUGGINGFACE in checkpoint.tensors or _wrapper(checkpoint) is not None


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `Layout`.

    Files of Meta's do not tell whether pixels were normalised patch by patch: taken as in the paper's
    best, unless `norm_pixels=False` is said.
    """
    reader = _read_huggingface if _OF_HUGGINGFACE in checkpoint.tensors else _read_meta
    return reader(checkpoint, overrides)


def write(pretrained: Pretrained) -> tuple[Tensors, dict[str, Any]]:
    """See `Layout`. It is Hugging Face's, with the names of the hub's files."""
    model = pretrained.model
    for name in ('image_size', 'patch_size'):
        height, width = as_pair(getattr(model, name))
        if height != width:
            raise UserError(f'the {name} of vit_mae is a square, not {height} x {width}')
    params = flatten_dict(pretrained.variables['params'], sep='/')
    facts = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    tensors = write_table(_HUGGINGFACE, params | _positions(facts), 'huggingface')
    config = common_config(model, _KIND, 'ViTMAEForPreTraining') | {'qkv_bias': True}
    config['intermediate_size'] = model.mlp_dim or 4 * model.width
    facts['decoder_mlp_dim'] = 4 * model.decoder_width
    return tensors, {
        'config.json': config | {theirs: facts[ours] for theirs, ours in _ARGUMENTS.items()},
        'preprocessor_config.json': write_preprocess(pretrained.preprocess),
    }


def _read_huggingface(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    config, known = read_config(checkpoint, _KIND)
    said = checkpoint.config
    config |= {ours: said[theirs] for theirs, ours in _ARGUMENTS.items() if theirs in said}
    known |= {'mask_ratio': 0.75, 'norm_pixels': False}
    if said.get('model_type') == _KIND:
        known['decoder_num_heads'] = 16
    preprocess = read_preprocess(checkpoint, _KIND)
    tensors = renamed(checkpoint.tensors, _RENAMED)
    checkpoint = dataclasses.replace(checkpoint, tensors=tensors)
    told = _tell(checkpoint, _HUGGINGFACE)
    params, arguments = _read(checkpoint, overrides, _HUGGINGFACE, told, config, known)
    return Parts('mae', arguments, params, preprocess)


def _read_meta(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    prefix = _wrapper(checkpoint)
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix)
    }
    checkpoint = dataclasses.replace(checkpoint, tensors=tensors)
    told = _tell(checkpoint, _META)
    known = {
        'num_heads': meta.HEADS.get(told['width']),
        'decoder_num_heads': _DECODER_HEADS.get(told['decoder_width']),
        'activation': 'gelu',
        'norm_epsilon': 1e-6,
        'norm_pixels': True,
    }
    params, arguments = _read(checkpoint, overrides, _META, told, {}, known)
    return Parts('mae', arguments, params, meta.PREPROCESS)


def _read(
    checkpoint: Checkpoint,
    overrides: dict[str, Any],
    table: list[Row],
    told: dict[str, Any],
    config: dict[str, Any],
    known: dict[str, Any],
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Parameters and constructor arguments; see `resolve_model_args` for `told`, `config` and `known`."""
    place, names = checkpoint.place, _names(table)
    rows = checkpoint.shape(names['vit/positions'], 3)[1]
    arguments = resolve_model_args(
        checkpoint,
        # Of classes it knows nothing: whoever asks for them is given the encoder.
        {name: value for name, value in overrides.items() if name != 'num_classes'},
        tensors=told,
        config=config,
        known=known | guess_size(rows, {'class': 1}, told['patch_size'], overrides),
        needed=['num_heads', 'decoder_num_heads', 'image_size'],
    )
    for name, value in (('qkv_bias', True), ('decoder_mlp_dim', 4 * told['decoder_width'])):
        if (theirs := arguments.pop(name)) != value:
            raise UserError(f'{place}: its {name} is {theirs}, and can only be {value}')
    check_grid(checkpoint, arguments, rows - 1)
    tables = _positions(arguments)
    shapes = parameter_shapes('mae', arguments) | {path: x.shape for path, x in tables.items()}
    params = read_table(table, checkpoint.tensors, shapes, place)
    for path, positions in tables.items():
        rounding = jnp.finfo(checkpoint.tensors[names[path]].dtype).eps
        difference = np.abs(params.pop(path) - positions).max()
        if difference > max(_TOLERANCE, rounding):
            raise UserError(
                f'{place}: {names[path]} is not the sine-cosine table of He et al. 2022, from '
                f'which it differs by {difference:.1e}; no other is held'
            )
    return params, arguments


def _wrapper(checkpoint: Checkpoint) -> str | None:
    """What stands before Meta's names, None if there are none."""
    found = (n.removesuffix(_OF_META) for n in checkpoint.tensors if n.endswith(_OF_META))
    return min(filter(meta.PREFIX.fullmatch, found), key=len, default=None)


def _names(table: list[Row]) -> dict[str, str]:
    """Path of ours -> their name, of a layer the first one's."""
    return {path: row.theirs.replace('{i}', '0') for row in table for path in row.paths}


def _tell(checkpoint: Checkpoint, table: list[Row]) -> dict[str, Any]:
    """Constructor arguments that follow from names and shapes."""
    names = _names(table)

    def shape(path: str, axes: int) -> tuple[int, ...]:
        return checkpoint.shape(names[path], axes)

    def depth(blocks: str) -> int:
        before, _, _ = names[f'{blocks}/mlp_norm/scale'].rpartition('0.')
        return count_layers(checkpoint.tensors, before)

    width, in_channels, *patch = shape('vit/patch_embedding/kernel', 4)
    return {
        'patch_size': tuple(patch),
        'in_channels': in_channels,
        'width': width,
        'depth': depth('vit/encoder/blocks'),
        'mlp_dim': shape('vit/encoder/blocks/mlp/hidden/kernel', 2)[0],
        'qkv_bias': names['vit/encoder/blocks/attention/query/bias'] in checkpoint.tensors,
        'decoder_width': shape('decoder_embedding/kernel', 2)[0],
        'decoder_depth': depth('decoder/blocks'),
        'decoder_mlp_dim': shape('decoder/blocks/mlp/hidden/kernel', 2)[0],
    }


def _positions(arguments: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tables that only files have, [1, 1 + N, D]: the class token's position is 0."""
    grid = grid_size(arguments['image_size'], arguments['patch_size'])
    widths = {'vit/positions': 'width', 'decoder_positions': 'decoder_width'}
    return {
        path: position_table('sincos2d_mae', grid, arguments[width], 1)
        for path, width in widths.items()
    }


def _table(vit: list[Row], blocks: list[Row], before: str) -> list[Row]:
    """The names, see `vitjax.pretrained.layouts.names`; of the positions too, as if they were parameters."""
    return [
        *vit,
        *dense(f'{before}decoder_embed', 'decoder_embedding'),
        Row(f'{before}mask_token', 'mask_token'),
        Row(f'{before}decoder_pos_embed', 'decoder_positions'),
        *blocks,
        *norm(f'{before}decoder_norm', 'decoder_norm'),
        *dense(f'{before}decoder_pred', 'decoder_head'),
    ]


_HUGGINGFACE = _table(
    under(huggingface.table('vit', {'gated_mlp': False}), 'vit.', 'vit/'),
    huggingface.block_rows('vit', False, 'decoder.decoder_layers.{i}', 'decoder/blocks'),
    'decoder.',
)
_META = _table(
    under(timm.table(False, False), '', 'vit/'),
    timm.block_rows(False, 'decoder_blocks.{i}', 'decoder/blocks'),
    '',
)


LAYOUT = Layout('mae', recognises, read, writes={'huggingface': MAE}, write=write)
