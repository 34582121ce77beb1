"""Google's Vision Transformers: `.npz` files of google-research/vision_transformer and big_vision.

Their tensors are ours but for the names, of which there are several spellings. Unsaid in the files and
true of all: the tanh approximation of GELU, an epsilon of 1e-6, pixels scaled to [-1, 1].
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from flax.traverse_util import flatten_dict

from vitjax.layers.convolution import resnet_stride
from vitjax.layers.patches import as_pair
from vitjax.models.vit import ViT
from vitjax.pretrained.equivalents import with_position_table
from vitjax.pretrained.files import Tensors
from vitjax.pretrained.layouts.base import (
    Checkpoint,
    Layout,
    Parts,
    check_grid,
    guess_image,
    parameter_shapes,
    refuse,
    resolve_model_args,
)
from vitjax.pretrained.layouts.names import Row, count_layers, read_table, write_table
from vitjax.pretrained.model import Pretrained

# Of vit_jax, where it counts the class token too; of big_vision before 2022, which did so as well, and
# of big_vision, where it is of the patches alone.
_POSITIONS = (
    'Transformer/posembed_input/pos_embedding',
    'Transformer/pos_embedding',
    'pos_embedding',
)
_NO_TABLE = 'sincos2d'  # the positions of a file that has none
_UNSAID = {'activation': 'gelu_tanh', 'norm_epsilon': 1e-6}  # of all of them
_PREFIXES = ('params/img/', 'params/', 'opt/target/', '')
_FINAL_NORM = 'Transformer/encoder_norm/scale'
_PROJECTIONS = ('query', 'key', 'value', 'out')


@dataclasses.dataclass(frozen=True)
class Spelling:
    """How a file names what all of them hold; the defaults are those of the published files.

    Attributes:
      prefix: of every name.
      positions: name of their table.
      linen: modules are counted kind by kind, not all together.
      scanned: all layers lie in one tensor.
      flat_norms: norms of the stem have one axis, not four.
    """

    prefix: str = ''
    positions: str = _POSITIONS[0]
    linen: bool = False
    scanned: bool = False
    flat_norms: bool = False

    @classmethod
    def of(cls, tensors: Tensors) -> 'Spelling':
        """That of a file."""
        prefix = next(prefix for prefix in _PREFIXES if f'{prefix}{_FINAL_NORM}' in tensors)
        tables = [f'{prefix}{name}' for name in _POSITIONS]
        blocks = f'{prefix}Transformer/encoderblock'
        names = [name for name in tensors if name.startswith(blocks)]
        norm = tensors.get(f'{prefix}gn_root/scale')
        return cls(
            prefix,
            # Where there is none positions are fixed, which only big_vision has.
            positions=next((name for name in tables if name in tensors), tables[-1]),
            linen=not any(name.endswith('/LayerNorm_2/scale') for name in names),
            scanned=any(name.startswith(f'{blocks}/') for name in names),
            flat_norms=norm is not None and norm.ndim == 1,
        )

    @property
    def big_vision(self) -> bool:
        return not self.positions.endswith(_POSITIONS[0])

    @property
    def block(self) -> str:
        return f'{self.prefix}Transformer/encoderblock' + ('' if self.scanned else '_{i}')

    @property
    def attention(self) -> str:
        return f'{self.block}/MultiHeadDotProductAttention_{0 if self.linen else 1}'

    @property
    def mlp(self) -> str:
        return f'{self.block}/MlpBlock_{0 if self.linen else 3}'


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of Google's files."""
    return any(f'{prefix}{_FINAL_NORM}' in checkpoint.tensors for prefix in _PREFIXES)


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `Layout`. See `guess_image` for its size."""
    spelling = Spelling.of(checkpoint.tensors)
    # What stands beside the prefix is the optimizer's, or another model's.
    tensors = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(spelling.prefix)
    }
    checkpoint = dataclasses.replace(checkpoint, tensors=tensors)
    told = _told(checkpoint, spelling)
    known = _UNSAID | {'positions': _NO_TABLE}
    known['pooling'] = 'cls' if told['class_token'] else 'mean'
    patches = None
    if spelling.positions in tensors:
        told['positions'] = 'learned'
        patches = checkpoint.shape(spelling.positions, 3)[1]
        if told['class_token']:
            # big_vision's files from before 2022 are told by their number alone.
            rest = guess_image(patches - 1, told['patch_size'], overrides)
            alone = spelling.big_vision and not rest
            told['prefix_positions'] = 'none' if alone else 'class'
            patches -= not alone
        known |= guess_image(patches, told['patch_size'], overrides)
    config = {key: checkpoint.config[key] for key in ('image_size',) if key in checkpoint.config}
    arguments = resolve_model_args(
        checkpoint, overrides, tensors=told, config=config, known=known, needed=['image_size']
    )
    if patches is not None:
        check_grid(checkpoint, arguments, patches)
    shapes = parameter_shapes('vit', arguments)
    params = read_table(
        _table(spelling, arguments.get('stem_depths')), tensors, shapes, checkpoint.place
    )
    # Evaluation in vit_jax takes the whole image, big_vision 224 of 256 pixels.
    cut = {'crop': 0.875} if spelling.big_vision else {'crop': 1.0, 'squash': True}
    preprocess = {'mean': (0.5,), 'std': (0.5,), 'interpolation': 'bilinear', **cut}
    labels = checkpoint.config.get('labels')
    return Parts(
        'vit',
        arguments,
        params,
        preprocess | checkpoint.config.get('preprocess', {}),
        labels=tuple(labels) if labels else None,
        resampling='linear_corners',
    )


def to_equivalent(pretrained: Pretrained) -> Pretrained:
    """With a table of positions, unless they are those that the files leave out."""
    if pretrained.model.positions in ('learned', _NO_TABLE):
        return pretrained
    return with_position_table(pretrained, 'class')


def write(pretrained: Pretrained) -> tuple[Tensors, dict[str, Any]]:
    """See `Layout`. Published names, or big_vision's where only it has the model."""
    model = pretrained.model
    class_token = model.prefix['class_token']
    refuse(
        {
            'it has none with class token and attention pooling': (
                model.pooling == 'map' and bool(class_token)
            ),
            "it has no pooling 'cls_mean'": model.pooling == 'cls_mean',
            'queries, keys and values have biases': not model.qkv_bias,
            'its patch embedding has a bias': not model.patch_bias,
            'it cuts the image into whole patches': model.pad,
        }
    )
    spelling = Spelling()
    unplaced = class_token and model.prefix_positions == 'none'
    if model.pooling == 'map' or model.positions == _NO_TABLE or unplaced:
        spelling = Spelling('params/', f'params/{_POSITIONS[-1]}', linen=True, flat_norms=True)
    params = flatten_dict(pretrained.variables['params'], sep='/')
    tensors = write_table(_table(spelling, model.stem_depths), params, 'google')
    config = {
        'image_size': as_pair(model.image_size),
        'labels': pretrained.labels,
        'preprocess': pretrained.preprocess.facts,
    }
    return tensors, {'config.json': config}


def _told(checkpoint: Checkpoint, spelling: Spelling) -> dict[str, Any]:
    """Constructor arguments that follow from names and shapes."""
    names, prefix = checkpoint.tensors, spelling.prefix
    *patch, in_channels, width = checkpoint.shape(f'{prefix}embedding/kernel', 4)
    told, stride = {'width': width, 'class_token': f'{prefix}cls' in names}, 1
    if f'{prefix}conv_root/kernel' in names:
        in_channels, told['stem_width'] = checkpoint.shape(f'{prefix}conv_root/kernel', 4)[2:]
        stages = range(1, count_layers(names, f'{prefix}block') + 1)
        units = (count_layers(names, f'{prefix}block{stage}/unit') for stage in stages)
        told['stem_depths'] = tuple(units)
        stride = resnet_stride(told['stem_depths'])
    told['in_channels'] = in_channels
    told['patch_size'] = (patch[0] * stride, patch[1] * stride)

    first = (part.replace('{i}', '0') for part in (spelling.attention, spelling.mlp))
    query, hidden = (
        checkpoint.shape(f'{part}/{leaf}/kernel', rank + spelling.scanned)
        for part, leaf, rank in zip(first, ('query', 'Dense_0'), (3, 2), strict=True)
    )
    layers = count_layers(names, f'{prefix}Transformer/encoderblock_')
    told['depth'] = query[0] if spelling.scanned else layers
    told['num_heads'], told['mlp_dim'] = query[-2], hidden[-1]
    if f'{prefix}MAPHead_0/probe' in names:
        told['pooling'] = 'map'
    sizes = {'representation_size': 'pre_logits', 'num_classes': 'head'}
    for argument, module in sizes.items():
        bias = f'{prefix}{module}/bias'
        told[argument] = checkpoint.shape(bias, 1)[0] if bias in names else None
    told['num_classes'] = told['num_classes'] or 0
    return told


def _table(spelling: Spelling, stem_depths: tuple[int, ...] | None) -> list[Row]:
    """The names of a file; all axes are as ours but those of the stem's norms."""
    prefix, block, pooling = spelling.prefix, spelling.block, f'{spelling.prefix}MAPHead_0'
    rows = [
        Row(f'{prefix}cls', 'class_token'),
        Row(spelling.positions, 'positions'),
        Row(f'{pooling}/probe', 'attention_pooling/probe_token'),
    ]
    modules = {
        f'{prefix}embedding': 'patch_embedding',
        f'{block}/LayerNorm_0': 'encoder/blocks/attention_norm',
        f'{block}/LayerNorm_{1 if spelling.linen else 2}': 'encoder/blocks/mlp_norm',
        **_transformer(spelling.attention, spelling.mlp, 'encoder/blocks'),
        f'{prefix}Transformer/encoder_norm': 'norm',
        **_transformer(
            f'{pooling}/MultiHeadDotProductAttention_0',
            f'{pooling}/MlpBlock_0',
            'attention_pooling',
        ),
        f'{pooling}/LayerNorm_0': 'attention_pooling/mlp_norm',
        f'{prefix}pre_logits': 'representation',
        f'{prefix}head': 'head',
    }
    norm_axes = '' if spelling.flat_norms else 'c -> 1 1 1 c'
    for convolution, norm, ours in _stem(stem_depths):
        modules[f'{prefix}{convolution}'] = f'backbone/{ours}/convolution'
        rows += [
            Row(f'{prefix}{norm}/{leaf}', f'backbone/{ours}/norm/{leaf}', norm_axes)
            for leaf in ('scale', 'bias')
        ]
    return rows + [
        Row(f'{theirs}/{leaf}', f'{ours}/{leaf}')
        for theirs, ours in modules.items()
        for leaf in ('kernel', 'scale', 'bias')
    ]


def _transformer(attention: str, mlp: str, ours: str) -> dict[str, str]:
    """Names of the projections of an attention and an MLP."""
    parts = {f'{attention}/{part}': f'{ours}/attention/{part}' for part in _PROJECTIONS}
    return parts | {f'{mlp}/Dense_0': f'{ours}/mlp/hidden', f'{mlp}/Dense_1': f'{ours}/mlp/out'}


def _stem(stem_depths: tuple[int, ...] | None) -> Iterator[tuple[str, str, str]]:
    """Their name of each convolution of a hybrid's stem, that of its norm, and ours of both."""
    if stem_depths is None:
        return
    yield 'conv_root', 'gn_root', 'root'
    for stage, depth in enumerate(stem_depths, 1):
        for unit in range(1, depth + 1):
            theirs, ours = f'block{stage}/unit{unit}', f'stage{stage}_block{unit}'
            for number in (1, 2, 3):
                yield f'{theirs}/conv{number}', f'{theirs}/gn{number}', f'{ours}/conv{number}'
            yield f'{theirs}/conv_proj', f'{theirs}/gn_proj', f'{ours}/projection'


LAYOUT = Layout('google', recognises, read, 'model.npz', {'google': ViT}, write, to_equivalent)
