"""MarianMT: the translation models of Helsinki-NLP (opus-mt-*) as folders of Hugging Face.

Beside model.safetensors (or pytorch_model.bin) and config.json lie source.spm, target.spm, vocab.json and,
if their authors had something to say, generation_config.json and tokenizer_config.json. Unsaid and true
of all: post-norm with an epsilon of 1e-5, all sines before all cosines.

Source: Junczys-Dowmunt et al. 2018, Marian, https://arxiv.org/abs/1804.00344; Tiedemann and Thottingal
2020, OPUS-MT.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from vitjax.data.marian import MarianTokenizer
from vitjax.data.text import SearchRules, TextPreprocess
from vitjax.errors import UserError, unknown
from vitjax.files import write_atomically
from vitjax.models.seq2seq import Transformer
from vitjax.pretrained.files import Tensors, write_tensors
from vitjax.pretrained.layouts import Checkpoint, Parts, parameter_shapes, settle
from vitjax.pretrained.names import (
    DENSE,
    MERGE_HEADS,
    SPLIT_HEADS,
    SPLIT_HEADS_BIAS,
    Row,
    count_layers,
    read_table,
    write_table,
)

WEIGHTS = 'model.safetensors'

_ACTIVATIONS = {
    'relu': 'relu',
    'swish': 'silu',
    'silu': 'silu',
    'gelu': 'gelu',
    'gelu_new': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'quick_gelu': 'quick_gelu',
}
_SHARED, _HEAD = 'model.shared.weight', 'lm_head.weight'
_SOURCE, _TARGET = (f'model.{stack}.embed_tokens.weight' for stack in ('encoder', 'decoder'))
_CROSS_ATTENTION = 'model.decoder.layers.0.encoder_attn.q_proj.weight'
_EARLY_STOP = {False: 'estimate', True: 'full', 'never': 'exact'}
# What else a generation config may say that changes a translation, and where it changes nothing.
_NEUTRAL = {
    'no_repeat_ngram_size': 0,
    'repetition_penalty': 1.0,
    'min_length': 0,
    'min_new_tokens': None,
    'suppress_tokens': None,
    'num_beam_groups': 1,
}

logger = logging.getLogger(__name__)


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether this is a Marian model; BART's have a norm more."""
    return (
        checkpoint.config.get('model_type', 'marian') == 'marian'
        and _CROSS_ATTENTION in checkpoint.tensors
        and 'model.encoder.layernorm_embedding.weight' not in checkpoint.tensors
    )


def read(checkpoint: Checkpoint, overrides: dict[str, Any]) -> Parts:
    """See `vitjax.pretrained.layouts`."""
    config = checkpoint.config
    share, tensors = _embeddings(checkpoint)
    told = _told(checkpoint, tensors, share)
    known = {'positions': 'sinusoidal_halves', 'norm_position': 'post', 'norm_epsilon': 1e-5}
    arguments = settle(
        checkpoint,
        overrides,
        tensors=told,
        config=_said(checkpoint),
        known=known,
        needed=['num_heads', 'activation'],
    )
    shapes = parameter_shapes('transformer', arguments)
    params = read_table(_table(arguments), tensors, shapes, checkpoint.place)
    if not config.get('scale_embedding', False):
        _scale(params, arguments['width'])
    return Parts('transformer', arguments, params, _preprocess(checkpoint, arguments))


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
        or model.activation not in _ACTIVATIONS.values()
    ):
        raise UserError('Marian has no such model')
    names = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
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
    rows = _table({'share_embeddings': 'all'})
    tensors = write_table(rows, params, 'marian')
    tensors[_SHARED] = tensors.pop(_TARGET)
    write_tensors(folder / WEIGHTS, tensors)
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
        if name not in _ACTIVATIONS:
            raise unknown(f'{checkpoint.place}: activation_function', name, _ACTIVATIONS)
        said['activation'] = _ACTIVATIONS[name]
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


def _preprocess(checkpoint: Checkpoint, arguments: dict[str, Any]) -> TextPreprocess:
    folder, config = Path(checkpoint.place).parent, checkpoint.config
    options = checkpoint.sidecars.get('tokenizer_config.json', {})
    if options.get('separate_vocabs'):
        raise UserError(f'{folder} has two vocabularies; only models with one are read')
    tokenizer = MarianTokenizer.load(folder)
    rows = min(arguments['vocab_size'], arguments.get('source_vocab_size') or tokenizer.size)
    if tokenizer.size > rows:
        raise UserError(
            f'{folder}: vocab.json has tokens up to {tokenizer.size - 1}, '
            f'but the embeddings of {checkpoint.place} end at {rows - 1}'
        )
    for key, token in (
        ('pad_token_id', tokenizer.pad),
        ('decoder_start_token_id', tokenizer.bos),
        ('eos_token_id', tokenizer.eos),
    ):
        if config.get(key, token) != token:
            raise UserError(
                f'{folder}: config.json says {key}={config[key]}, vocab.json has it at {token}'
            )
    languages = options.get('source_lang'), options.get('target_lang')
    if not all(isinstance(language, str) for language in languages):
        name = str(config.get('_name_or_path') or folder.resolve().name)
        match = re.search(r'opus-mt-(?:tc-[a-z]+-)?([^-/]+)-([^-/]+)$', name)
        languages = match.groups() if match else ('source', 'target')
    longest = config.get('max_position_embeddings', 512)
    if type(longest) is not int or longest < 2:
        raise UserError(f'{folder}: config.json says max_position_embeddings={longest!r}')
    return TextPreprocess(
        tokenizer, languages, longest, _search(checkpoint, tokenizer.eos, longest)
    )


def _search(checkpoint: Checkpoint, eos: int, longest: int) -> SearchRules:
    """What generation_config.json says, or config.json in its place."""
    name = 'generation_config.json'
    if name not in checkpoint.sidecars:
        name = 'config.json'
    config = {k: v for k, v in checkpoint.sidecars.get(name, {}).items() if v is not None}
    for key, neutral in _NEUTRAL.items():
        if config.get(key, neutral) != neutral:
            logger.warning(
                '%s: %s=%r of %s is not followed', checkpoint.place, key, config[key], name
            )
    suppress = config.get('bad_words_ids', [])
    if not all(isinstance(word, list) and len(word) == 1 for word in suppress):
        raise UserError(f'{checkpoint.place}: bad_words_ids of {name} has words of several tokens')
    if config.get('forced_eos_token_id', eos) not in (eos, [eos]):
        raise UserError(
            f'{checkpoint.place}: forced_eos_token_id of {name} is '
            f'{config["forced_eos_token_id"]}, not the end {eos}'
        )
    stop = config.get('early_stopping', False)
    if stop not in _EARLY_STOP:
        raise UserError(f'{checkpoint.place}: early_stopping is {stop!r} in {name}')
    for key, kind in (('length_penalty', (int, float)), ('max_length', int)):
        if not isinstance(config.get(key, 1), kind):
            raise UserError(f'{checkpoint.place}: {key} is {config[key]!r} in {name}')
    return SearchRules(
        suppress=tuple(token for (token,) in suppress),
        # Theirs counts the token that the decoder starts from.
        longest=min(config.get('max_length', longest), longest) - 1,
        forced_eos='forced_eos_token_id' in config,
        renormalise=bool(config.get('renormalize_logits', False)),
        length_penalty=float(config.get('length_penalty', 1.0)),
        length_normalisation='power',
        early_stop=_EARLY_STOP[stop],
    )


def _table(arguments: dict[str, Any]) -> list[Row]:
    """The names of tensors, tables of embeddings as `_embeddings` leaves them."""
    bias = 'head/bias' if arguments['share_embeddings'] == 'none' else 'output_bias'
    rows = [
        Row(_TARGET, 'embedding'),
        Row(_SOURCE, 'source_embedding'),
        Row(_HEAD, 'head/kernel', DENSE),
        Row('final_logits_bias', bias, 'v -> 1 v'),
    ]
    for stack in ('encoder', 'decoder'):
        theirs, ours = f'model.{stack}.layers.{{i}}', f'{stack}/blocks'
        for attention, name in (('self_attn', 'attention'), ('encoder_attn', 'cross_attention')):
            rows += [
                row
                for part in ('query', 'key', 'value')
                for row in (
                    Row(
                        f'{theirs}.{attention}.{part[0]}_proj.weight',
                        f'{ours}/{name}/{part}/kernel',
                        SPLIT_HEADS,
                    ),
                    Row(
                        f'{theirs}.{attention}.{part[0]}_proj.bias',
                        f'{ours}/{name}/{part}/bias',
                        SPLIT_HEADS_BIAS,
                    ),
                )
            ]
            rows += [
                Row(
                    f'{theirs}.{attention}.out_proj.weight',
                    f'{ours}/{name}/out/kernel',
                    MERGE_HEADS,
                ),
                Row(f'{theirs}.{attention}.out_proj.bias', f'{ours}/{name}/out/bias'),
                *_norm(f'{theirs}.{attention}_layer_norm', f'{ours}/{name}_norm'),
            ]
        for number, name in ((1, 'hidden'), (2, 'out')):
            rows += [
                Row(f'{theirs}.fc{number}.weight', f'{ours}/mlp/{name}/kernel', DENSE),
                Row(f'{theirs}.fc{number}.bias', f'{ours}/mlp/{name}/bias'),
            ]
        rows += _norm(f'{theirs}.final_layer_norm', f'{ours}/mlp_norm')
    return rows


def _norm(theirs: str, ours: str) -> list[Row]:
    return [Row(f'{theirs}.weight', f'{ours}/scale'), Row(f'{theirs}.bias', f'{ours}/bias')]
