"""MarianMT: the translation models of Helsinki-NLP (opus-mt-*) as folders of Hugging Face.

Beside model.safetensors (or pytorch_model.bin) and config.json lie source.spm, target.spm, vocab.json and,
if their authors had something to say, generation_config.json and tokenizer_config.json. Unsaid and true
of all: post-norm with an epsilon of 1e-5, all sines before all cosines.

Source: Junczys-Dowmunt et al. 2018, Marian, https://arxiv.org/abs/1804.00344; Tiedemann and Thottingal
2020, OPUS-MT.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from vitjax.errors import UserError, unknown
from vitjax.files import write_atomically
from vitjax.layers.mlp import TRANSFORMERS_ACTIVATIONS
from vitjax.models.seq2seq import Transformer
from vitjax.pretrained.files import Tensors, write_tensors
from vitjax.pretrained.layouts.base import (
    Checkpoint,
    Layout,
    Parts,
    parameter_shapes,
    resolve_model_args,
)
from vitjax.pretrained.layouts.marian_text import preprocess_of
from vitjax.pretrained.layouts.names import DENSE, Row, count_layers, read_table, write_table
from vitjax.pretrained.layouts.pytorch import attention, dense, norm

_SHARED, _HEAD = 'model.shared.weight', 'lm_head.weight'
_SOURCE, _TARGET = (f'model.{stack}.embed_tokens.weight' for stack in ('encoder', 'decoder'))
_CROSS_ATTENTION = 'model.decoder.layers.0.encoder_attn.q_proj.weight'


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether this is a Marian model; BART's have a norm more."""
    return (
        checkpoint.config.get('model_type', 'marian') == 'marian'
        and _CROSS_ATTENTION in checkpoint.tensors
        and 'model.encoder.layernorm_embedding.weight' not in checkpoint.tensors
    )


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `Layout`."""
    config = checkpoint.config
    share, tensors = _embeddings(checkpoint)
    told = _told(checkpoint, tensors, share)
    known = {'positions': 'sinusoidal_halves', 'norm_position': 'post', 'norm_epsilon': 1e-5}
    arguments = resolve_model_args(
        checkpoint,
        overrides,
        tensors=told,
        config=_said(checkpoint),
        known=known,
        needed=['num_heads', 'activation'],
    )
    shapes = parameter_shapes('transformer', arguments)
    params = read_table(_table(share), tensors, shapes, checkpoint.place)
    if not config.get('scale_embedding', False):
        _scale(params, arguments['width'])
    return Parts('transformer', arguments, params, preprocess_of(checkpoint, arguments))


def write_model(
    folder: Path, model: Transformer, params: Mapping[str, Any], *, pad: int, eos: int
) -> None:
    """Writes weights and config.json, without a tokenizer, so that MarianMTModel reads them.

    The decoder starts from `pad`.

    Raises:
      UserError: Marian has no such model.
    """
    if (
        (model.positions, model.norm_position) != ('sinusoidal_halves', 'post')
        or model.norm_epsilon != 1e-5
        or model.share_embeddings != 'all'
        or model.activation not in TRANSFORMERS_ACTIVATIONS.values()
    ):
        raise UserError('Marian has no such model')
    names = {ours: theirs for theirs, ours in reversed(TRANSFORMERS_ACTIVATIONS.items())}
    names['silu'] = 'swish'  # as published configs of Marian have it
    sizes = {
        'ffn_dim': model.mlp_dim or 4 * model.width,
        'attention_heads': model.num_heads,
    }
    config = {
        'model_type': 'marian',
        'architectures': ['MarianMTModel'],
        'vocab_size': model.vocab_size,
        'd_model': model.width,
        'encoder_layers': model.encoder_depth,
        'decoder_layers': model.decoder_depth,
        **{f'{stack}_{name}': n for stack in ('encoder', 'decoder') for name, n in sizes.items()},
        'activation_function': names[model.activation],
        'max_position_embeddings': model.max_positions,
        'pad_token_id': pad,
        'decoder_start_token_id': pad,
        'eos_token_id': eos,
        'forced_eos_token_id': None,
        'scale_embedding': True,
        'share_encoder_decoder_embeddings': True,
        'tie_word_embeddings': True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    params = flatten_dict(params, sep='/')
    rows = _table('all')
    tensors = write_table(rows, params, 'marian')
    tensors[_SHARED] = tensors.pop(_TARGET)
    write_tensors(folder / LAYOUT.weights, tensors)
    write_atomically(folder / 'config.json', json.dumps(config, indent=2) + '\n')


def _embeddings(checkpoint: Checkpoint) -> tuple[str, Tensors]:
    """How tables are shared, and the tensors, each table only once.

    Files hold a table that is shared once or, older ones, under each of its names.
    """
    tensors = {name: x for name, x in checkpoint.tensors.items() if 'embed_positions' not in name}
    found = {name: tensors.pop(name, None) for name in (_SHARED, _SOURCE, _TARGET, _HEAD)}
    shared = checkpoint.config.get('share_encoder_decoder_embeddings', True)
    tied = checkpoint.config.get('tie_word_embeddings', True)
    share = 'none' if not tied else 'all' if shared else 'target'
    # Each table that the model has -> the names that hold it.
    tables = {
        'all': {_TARGET: (_SHARED, _TARGET, _SOURCE, _HEAD)},
        'target': {_SOURCE: (_SOURCE,), _TARGET: (_TARGET, _HEAD)},
        'none': {_SOURCE: (_SOURCE,), _TARGET: (_TARGET,), _HEAD: (_HEAD,)},
    }[share]
    for table, names in tables.items():
        first, *others = [name for name in names if found[name] is not None] or [_SHARED]
        if found[first] is None or (first == _SHARED and table == _HEAD):
            raise UserError(f'{checkpoint.place} has no tensor {names[0]}')
        for name in others:
            if not np.array_equal(found[first], found[name]):
                raise UserError(
                    f'{checkpoint.place}: its config says that {first} and {name} are one table, '
                    'but they differ'
                )
        tensors[table] = found[first]
    return share, tensors


def _told(checkpoint: Checkpoint, tensors: Tensors, share: str) -> dict[str, Any]:
    """Constructor arguments that follow from names and shapes."""
    vocab_size, width = _shape(checkpoint, tensors, _TARGET)
    told = {'vocab_size': vocab_size, 'width': width, 'share_embeddings': share}
    if share != 'all':
        told['source_vocab_size'] = _shape(checkpoint, tensors, _SOURCE)[0]
    hidden = checkpoint.shape('model.encoder.layers.0.fc1.weight', 2)[0]
    return told | {
        'encoder_depth': count_layers(tensors, 'model.encoder.layers.'),
        'decoder_depth': count_layers(tensors, 'model.decoder.layers.'),
        'mlp_dim': hidden,
        'output_bias': 'final_logits_bias' in tensors,
    }


def _shape(checkpoint: Checkpoint, tensors: Tensors, name: str) -> tuple[int, ...]:
    if tensors[name].ndim != 2:
        raise UserError(f'{checkpoint.place}: {name} is {tensors[name].shape}, not 2 axes')
    return tensors[name].shape


def _said(checkpoint: Checkpoint) -> dict[str, Any]:
    """Constructor arguments as config.json says them."""
    config, said = checkpoint.config, {}
    for ours, theirs in (
        ('num_heads', ('encoder_attention_heads', 'decoder_attention_heads')),
        ('mlp_dim', ('encoder_ffn_dim', 'decoder_ffn_dim')),
    ):
        values = {name: config[name] for name in theirs if name in config}
        if len(set(values.values())) > 1:
            both = ' and '.join(f'{name}={value}' for name, value in values.items())
            raise UserError(f'{checkpoint.place}: {both} must be equal here')
        if values:
            said[ours] = next(iter(values.values()))
    for ours, theirs in (
        ('width', 'd_model'),
        ('encoder_depth', 'encoder_layers'),
        ('decoder_depth', 'decoder_layers'),
    ):
        if theirs in config:
            said[ours] = config[theirs]
    if 'activation_function' in config:
        name = config['activation_function']
        if name not in TRANSFORMERS_ACTIVATIONS:
            raise unknown(
                f'{checkpoint.place}: activation_function', name, TRANSFORMERS_ACTIVATIONS
            )
        said['activation'] = TRANSFORMERS_ACTIVATIONS[name]
    return said


def _scale(params: dict[str, np.ndarray], width: int) -> None:
    """Undoes the factor sqrt(D) that our embeddings have where they enter, and these have not."""
    factor = np.float32(width**0.5)
    for name in ('embedding', 'source_embedding'):
        if name in params:
            params[name] /= factor
    if 'head/kernel' not in params:  # logits are products with the table: the last norm makes up
        for leaf in ('scale', 'bias'):
            params[f'decoder/blocks/mlp_norm/{leaf}'][-1] *= factor


def _table(share: str) -> list[Row]:
    """The names of tensors, tables of embeddings as `_embeddings` leaves them."""
    bias = 'head/bias' if share == 'none' else 'output_bias'
    rows = [
        Row(_TARGET, 'embedding'),
        Row(_SOURCE, 'source_embedding'),
        Row(_HEAD, 'head/kernel', DENSE),
        Row('final_logits_bias', bias, 'v -> 1 v'),
    ]
    for stack in ('encoder', 'decoder'):
        theirs, ours = f'model.{stack}.layers.{{i}}', f'{stack}/blocks'
        for their_name, name in (('self_attn', 'attention'), ('encoder_attn', 'cross_attention')):
            parts = ('query', 'key', 'value')
            inputs = {f'{theirs}.{their_name}.{part[0]}_proj': (part,) for part in parts}
            rows += attention(f'{ours}/{name}', inputs, f'{theirs}.{their_name}.out_proj')
            rows += norm(f'{theirs}.{their_name}_layer_norm', f'{ours}/{name}_norm')
        rows += dense(f'{theirs}.fc1', f'{ours}/mlp/hidden')
        rows += dense(f'{theirs}.fc2', f'{ours}/mlp/out')
        rows += norm(f'{theirs}.final_layer_norm', f'{ours}/mlp_norm')
    return rows


LAYOUT = Layout('marian', recognises, read)
