"""timm's Vision Transformers: `VisionTransformer` and its distilled kind, alone or in a hub's folder.

Google's and Meta's weights that timm hands out compute here what they compute there: with the exact
GELU, and positions resampled its way.
"""

from typing import Any

from flax.traverse_util import flatten_dict

from vitjax.models.vit import ViT
from vitjax.pretrained.equivalents import with_position_table
from vitjax.pretrained.files import Tensors
from vitjax.pretrained.layouts.base import (
    Checkpoint,
    Layout,
    Parts,
    parameter_shapes,
    resolve_model_args,
)
from vitjax.pretrained.layouts.names import Row, count_layers, read_table, write_table
from vitjax.pretrained.layouts.pytorch import (
    attention,
    convolution,
    dense,
    find_grid,
    guess_size,
    norm,
)
from vitjax.pretrained.layouts.timm_config import (
    PATCHES,
    architecture_args,
    check_holds,
    read_config,
    write_config,
)
from vitjax.pretrained.model import Pretrained


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the names are timm's."""
    return {PATCHES, 'blocks.0.norm1.weight'} <= checkpoint.tensors.keys()


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `Layout`; without a config.json it takes a square image unless told."""
    told = tell(checkpoint)
    config, labels, preprocess = read_config(checkpoint, overrides)
    return read_tensors(
        checkpoint,
        overrides,
        told,
        config=config,
        known=architecture_args(checkpoint, told['width']),
        preprocess=preprocess,
        labels=labels,
        guessed=() if checkpoint.config else ('mean', 'std'),
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
      config, known: see `resolve_model_args`.
      placed: values of `prefix_positions` that may be.
      parts: the rest of `Parts`.
    """
    names = checkpoint.tensors
    tokens = told['class_token'] + (told['distillation'] != 'none')
    counts = {'all': tokens + told['num_registers'], 'class': tokens, 'none': 0}
    if not told['num_registers']:
        placed = tuple('class' if name == 'all' else name for name in placed)
    counts = {name: counts[name] for name in placed}
    rows = checkpoint.shape('pos_embed', 3)[1] if 'pos_embed' in names else None
    usual = {
        'activation': 'silu' if told['gated_mlp'] else 'gelu',
        'norm_epsilon': 1e-6,
        'layer_scale': 1e-5 if 'blocks.0.ls1.gamma' in names else None,
        'pooling': 'cls' if told['class_token'] and not told['norm_after_pooling'] else 'mean',
        'pool_prefix': False,
    }
    if rows:
        usual |= guess_size(rows, counts, told['patch_size'], overrides)
    arguments = resolve_model_args(
        checkpoint,
        overrides,
        tensors=told,
        config=config,
        known=usual | known,
        needed=['num_heads', 'image_size'],
    )
    if arguments['pooling'] in ('cls', 'cls_mean'):
        arguments['pool_prefix'] = None
    if rows:
        find_grid(checkpoint, arguments, rows, counts)
    shapes = parameter_shapes('vit', arguments)
    named = table(arguments['gated_mlp'], arguments['norm_after_pooling'])
    params = read_table(named, names, shapes, checkpoint.place)
    return Parts('vit', arguments, params, **parts)


def to_equivalent(pretrained: Pretrained) -> Pretrained:
    """With a position of every token before the patches, or of none; distilled models have them all."""
    model = pretrained.model
    without = model.positions == 'none' or (model.positions == 'learned' and not model.num_placed)
    if without and model.distillation == 'none':
        return pretrained
    return with_position_table(pretrained, 'all')


def write(pretrained: Pretrained) -> tuple[Tensors, dict[str, Any]]:
    """See `Layout`. The config.json has every argument that timm's constructor takes."""
    model = pretrained.model
    check_holds(model)
    params = flatten_dict(pretrained.variables['params'], sep='/')
    tensors = write_table(table(model.gated_mlp, model.norm_after_pooling), params, 'timm')
    return tensors, {'config.json': write_config(pretrained)}


def tell(checkpoint: Checkpoint) -> dict[str, Any]:
    """Constructor arguments that follow from names and shapes."""
    names = checkpoint.tensors
    width, in_channels, *patch = checkpoint.shape(PATCHES, 4)
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
        'distillation': 'none',
        'num_registers': registers,
        'patch_bias': 'patch_embed.proj.bias' in names,
        'positions': 'learned' if 'pos_embed' in names else 'none',
        'norm_embeddings': 'norm_pre.weight' in names,
        'norm_after_pooling': 'fc_norm.weight' in names,
        'qkv_bias': 'blocks.0.attn.qkv.bias' in names,
        'qk_norm': 'blocks.0.attn.q_norm.weight' in names,
    }
    if 'dist_token' in names:
        told['distillation'] = 'head' if 'head_dist.weight' in names else 'token'
    if 'attn_pool.latent' in names:
        told['pooling'] = 'map'
    if told['qk_norm']:
        told['num_heads'] = width // checkpoint.shape('blocks.0.attn.q_norm.weight', 1)[0]
    return told


def table(gated: bool, norm_after_pooling: bool) -> list[Row]:
    """The names, see `vitjax.pretrained.layouts.names`."""
    return [
        Row('cls_token', 'class_token'),
        Row('dist_token', 'distillation_token'),
        Row('reg_token', 'register_tokens'),
        Row('pos_embed', 'positions'),
        *convolution('patch_embed.proj', 'patch_embedding'),
        *norm('norm_pre', 'embedding_norm'),
        *norm('fc_norm' if norm_after_pooling else 'norm', 'norm'),
        *block_rows(gated, 'blocks.{i}', 'encoder/blocks'),
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


def block_rows(gated: bool, block: str, blocks: str) -> list[Row]:
    """Rows of the blocks of a stack: their name of one, and our path of all."""
    hidden = ('gate', 'hidden') if gated else ('hidden',)
    return [
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
    ]


LAYOUT = Layout(
    'timm',
    recognises,
    read,
    writes={'timm': ViT},
    write=write,
    to_equivalent=to_equivalent,
)
