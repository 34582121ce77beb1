"""What translation takes from `config.data` and `config.text`: tokens, packed and ready for batches."""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.data.inputs import DataOptions
from vitjax.data.packing import Ragged, Rows, pack
from vitjax.data.sources import PLACEHOLDER_SPLIT
from vitjax.data.text import TextPreprocess, cut
from vitjax.data.tokenizer import Tokenizer
from vitjax.errors import UserError
from vitjax.files import write_atomically
from vitjax.protocols import Batch, Source

logger = logging.getLogger(__name__)

_Tokens = tuple[list[int], list[int]]  # of a sentence and of its translation


@dataclasses.dataclass(frozen=True)
class TextData:
    """Sentences and their translations, for training and for evaluation.

    Batches are dicts of int32 arrays as `packing.Rows` has them, here [B, S] and [B, T], and `mask`,
    bool [B]. A source sentence is its tokens and the end token, a target sentence stands between the
    begin and the end token: the decoder's inputs are `target[:, :-1]`, its labels `target[:, 1:]`,
    which count where they are of the same segment as the input.

    Attributes:
      train: rows of max_length source and max_length + 1 target tokens, packed or not; or `PLACEHOLDER_SPLIT`.
      evaluation: a sentence a row, as long as the longest.
      references: the sentences of `evaluation` as they are written.
      preprocess: how text becomes tokens.
      counts: what became of the training pairs ('pairs' = 'kept' + 'empty' + 'dropped', of the kept
        ones 'cut'), if they were read, and of those of the evaluation ('eval_pairs', 'eval_cut').
      max_length: tokens of a source sentence at most.
      seed: of the run.
      reading: how examples are read, see `DataOptions.reading`.
    """

    train: Rows
    evaluation: Rows
    references: Source
    preprocess: TextPreprocess
    counts: Mapping[str, int]
    max_length: int
    seed: int
    reading: Mapping[str, Any]

    labels = None

    @property
    def tokenizer(self) -> Tokenizer:
        return self.preprocess.tokenizer

    def train_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Endless batches of this host's part, `batch_size` rows each."""
        from vitjax.data.pipeline import train_batches

        return train_batches(
            self.train,
            _as_it_is,
            batch_size=batch_size,
            seed=self.seed,
            shard=shard,
            **self.reading,
        )

    def eval_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Every sentence once and in order, in batches of this host's part; padding is masked."""
        from vitjax.data.pipeline import eval_batches

        return eval_batches(
            self.evaluation,
            _as_it_is,
            batch_size=batch_size,
            shard=shard,
            **self.reading,
        )

    def on_device(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """A batch as the model takes it, which it already is."""
        return batch

    def batch_shapes(self, batch_size: int, train: bool = True) -> dict[str, jax.ShapeDtypeStruct]:
        """What a batch of all hosts holds."""
        lengths = self.max_length, self.max_length + 1
        if not train and self.evaluation is not PLACEHOLDER_SPLIT:
            lengths = self.evaluation.lengths
        shapes = {'mask': jax.ShapeDtypeStruct((batch_size,), jnp.bool_)}
        for side, length in zip(('source', 'target'), lengths, strict=True):
            for name in (side, f'{side}_segment', f'{side}_position'):
                shapes[name] = jax.ShapeDtypeStruct((batch_size, length), jnp.int32)
        return shapes

    def save(self, folder: Path) -> None:
        """Writes what later use needs: tokenizer, languages, and a sentence to try."""
        self.preprocess.save(folder)
        write_atomically(folder / 'examples' / 'source.txt', self.references[0]['source'] + '\n')


def open_sentences(options: DataOptions, tokenizer: Tokenizer | None = None) -> TextData:
    """Opens the sentences that a config names, those to train on only for `options.training`.

    Unless a tokenizer is given, one is trained on those of the training split. All is settled by the
    config. Training pairs with an empty side are left out, those with a side of
    more than `config.text.max_length` tokens are dropped or cut; in evaluation such sides are cut.

    Raises:
      UserError: the data are not there or damaged, the vocabulary is too small, nothing is left.
    """
    text = options.text
    languages, max_length = tuple(text['languages']), text['max_length']
    if not options.read:
        options.open_both(languages)
        return TextData(
            PLACEHOLDER_SPLIT,
            PLACEHOLDER_SPLIT,
            PLACEHOLDER_SPLIT,
            None,
            {},
            max_length,
            options.seed,
            options.reading,
        )
    needed = options.training or tokenizer is None
    train, references = dataclasses.replace(options, training=needed).open_both(languages)
    if needed:
        sides = _sides(train)
    if tokenizer is None:
        tokenizer = Tokenizer.train(
            itertools.chain(*sides), kind=text['tokenizer'], vocab_size=text['vocab_size']
        )
    _check_fit(options.model, max_length, tokenizer)
    room = (max_length, max_length + 1)
    rows, counts = PLACEHOLDER_SPLIT, {}
    if options.training:
        rows, counts = _training_rows(train.name, _encode(tokenizer, *sides), text, options.seed)

    pairs = _encode(tokenizer, *_sides(references))
    short = [_fit(pair, room) for pair in pairs]
    counts |= {'eval_pairs': len(pairs), 'eval_cut': _differences(short, pairs)}
    longest = tuple(max(map(len, side)) for side in zip(*short, strict=True))
    alone = [[number] for number in range(len(short))]
    evaluation = Rows(references.name, *map(Ragged, zip(*short, strict=True)), alone, longest)

    shown = ', '.join(f'{name} {count}' for name, count in counts.items())
    logger.info('sentences: %s; %d tokens', shown, tokenizer.size)
    preprocess = TextPreprocess(tokenizer, languages, max_length)
    return TextData(
        *(rows, evaluation, references, preprocess, counts, max_length),
        *(options.seed, options.reading),
    )


def _training_rows(
    name: str, pairs: list[_Tokens], text: Mapping[str, Any], seed: int
) -> tuple[Rows, dict[str, int]]:
    """The rows to train on, and what became of the pairs, as `TextData.counts` has it."""
    max_length = text['max_length']
    room = (max_length, max_length + 1)
    kept = [pair for pair in pairs if len(pair[0]) > 1 and len(pair[1]) > 2]
    counts = {'pairs': len(pairs), 'empty': len(pairs) - len(kept), 'dropped': 0}
    if text['too_long'] == 'drop':
        filled, kept = len(kept), [pair for pair in kept if _fit(pair, room) == pair]
        counts['dropped'] = filled - len(kept)
    if not kept:
        raise UserError(
            f'{name}: not one of {len(pairs)} sentence pairs has text on both sides and at '
            f'most {max_length} tokens (config.text.max_length)'
        )
    short = [_fit(pair, room) for pair in kept]
    counts |= {'kept': len(kept), 'cut': _differences(short, kept)}
    lengths = [(len(source), len(target)) for source, target in short]
    groups = pack(lengths, room, seed) if text['pack'] else [[i] for i in range(len(short))]
    rows = Rows(f'{name} in rows', *map(Ragged, zip(*short, strict=True)), groups, room)
    logger.info('%s: %d rows, %.1f %% of them padding', name, len(rows), 100 * rows.padding)
    return rows, counts


def _check_fit(model: nn.Module, max_length: int, tokenizer: Tokenizer) -> None:
    """UserError unless the model has room for all tokens and all positions."""
    for key in ('vocab_size', 'source_vocab_size'):
        size = getattr(model, key, None)
        if size is not None and tokenizer.size > size:
            raise UserError(
                f'config.model.{key} is {size}, but the tokenizer has {tokenizer.size} tokens; '
                'set it to config.text.vocab_size'
            )
    if getattr(model, 'positions', None) == 'learned' and model.max_positions < max_length:
        raise UserError(
            f'config.model.max_positions {model.max_positions} is less than config.text.max_length '
            f'{max_length}'
        )


def _sides(source: Source) -> tuple[list[str], list[str]]:
    examples = [source[index] for index in range(len(source))]
    for key in ('source', 'target'):
        if key not in examples[0]:
            raise UserError(f'{source.name} holds no sentences and translations: it has no {key!r}')
    return [e['source'] for e in examples], [e['target'] for e in examples]


def _encode(tokenizer: Tokenizer, sources: list[str], targets: list[str]) -> list[_Tokens]:
    encoded = zip(tokenizer.encode_all(sources), tokenizer.encode_all(targets), strict=True)
    return [
        ([*source, tokenizer.eos], [tokenizer.bos, *target, tokenizer.eos])
        for source, target in encoded
    ]


def _fit(pair: _Tokens, room: tuple[int, int]) -> _Tokens:
    return cut(pair[0], room[0]), cut(pair[1], room[1])


def _differences(pairs: list[_Tokens], others: list[_Tokens]) -> int:
    return sum(pair != other for pair, other in zip(pairs, others, strict=True))


def _as_it_is(example: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    del rng
    return dict(example)
