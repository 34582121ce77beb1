"""What translation takes from `config.data` and `config.text`: tokens, packed and ready for batches."""

import dataclasses
import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitjax.data.packing import Ragged, Rows, pack
from vitjax.data.pipeline import eval_batches, reading, train_batches
from vitjax.data.sources import TEXTS, UNREAD, Source, check_name, open_texts
from vitjax.data.text import TextPreprocess, cut
from vitjax.data.tokenizer import Tokenizer
from vitjax.errors import UserError
from vitjax.files import write_atomically

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
      train: rows of max_length source and max_length + 1 target tokens, packed or not; or `UNREAD`.
      evaluation: a sentence a row, as long as the longest.
      references: the sentences of `evaluation` as they are written.
      preprocess: how text becomes tokens.
      counts: what became of the training pairs ('pairs' = 'kept' + 'empty' + 'dropped', of the kept
        ones 'cut'), if they were read, and of those of the evaluation ('eval_pairs', 'eval_cut').
      config: the run's config.
    """

    train: Rows
    evaluation: Rows
    references: Source
    preprocess: TextPreprocess
    counts: Mapping[str, int]
    config: ml_collections.ConfigDict

    @property
    def tokenizer(self) -> Tokenizer:
        return self.preprocess.tokenizer

    @property
    def model_inputs(self) -> tuple[jax.Array, jax.Array]:
        """Zeros of the shapes with which the model is initialised: source and target."""
        return jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2), jnp.int32)

    def train_batches(self, batch_size: int, shard: tuple[int, int]) -> grain.IterDataset:
        """Endless batches of this host's part, `batch_size` rows each."""
        return train_batches(
            self.train,
            _as_it_is,
            batch_size=batch_size,
            seed=self.config.seed,
            shard=shard,
            **reading(self.config.data),
        )

    def eval_batches(self, batch_size: int, shard: tuple[int, int]) -> grain.IterDataset:
        """Every sentence once and in order, in batches of this host's part; padding is masked."""
        return eval_batches(
            self.evaluation,
            _as_it_is,
            batch_size=batch_size,
            shard=shard,
            **reading(self.config.data),
        )

    def on_device(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """A batch as the model takes it, which it already is."""
        return batch

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """What a training batch of all hosts holds."""
        source = self.config.text.max_length
        shapes = {'mask': jax.ShapeDtypeStruct((batch_size,), jnp.bool_)}
        for side, length in (('source', source), ('target', source + 1)):
            for name in (side, f'{side}_segment', f'{side}_position'):
                shapes[name] = jax.ShapeDtypeStruct((batch_size, length), jnp.int32)
        return shapes

    def save(self, folder: Path) -> None:
        """Writes what later use needs: tokenizer, languages, and a sentence to try."""
        self.preprocess.save(folder)
        write_atomically(folder / 'examples' / 'source.txt', self.references[0]['source'] + '\n')


def open_sentences(
    config: ml_collections.ConfigDict, tokenizer: Tokenizer | None = None, training: bool = True
) -> TextData:
    """Opens the sentences that a config names, those to train on only for `training`.

    Unless a tokenizer is given, one is trained on those of the training split. All is settled by the
    config. Training pairs with an empty side are left out, those with a side of
    more than `config.text.max_length` tokens are dropped or cut; in evaluation such sides are cut.

    Raises:
      UserError: the data are not there or damaged, the vocabulary is too small, nothing is left.
    """
    data, text = config.data, config.text
    languages = tuple(text.languages)
    references = open_texts(data.name, languages, data.eval_split, data.path)
    if training or tokenizer is None:
        train = open_texts(data.name, languages, data.train_split, data.path)
        sides = _sides(train)
    if tokenizer is None:
        tokenizer = Tokenizer.train(
            itertools.chain(*sides), kind=text.tokenizer, vocab_size=text.vocab_size
        )
    _check_fit(config, tokenizer)
    room = (text.max_length, text.max_length + 1)
    rows, counts = UNREAD, {}
    if training:
        rows, counts = _training_rows(train.name, _encode(tokenizer, *sides), config)

    pairs = _encode(tokenizer, *_sides(references))
    short = [_fit(pair, room) for pair in pairs]
    counts |= {'eval_pairs': len(pairs), 'eval_cut': _differences(short, pairs)}
    longest = tuple(max(map(len, side)) for side in zip(*short, strict=True))
    alone = [[number] for number in range(len(short))]
    evaluation = Rows(references.name, *map(Ragged, zip(*short, strict=True)), alone, longest)

    shown = ', '.join(f'{name} {count}' for name, count in counts.items())
    logger.info('sentences: %s; %d tokens', shown, tokenizer.size)
    preprocess = TextPreprocess(tokenizer, languages, text.max_length)
    return TextData(rows, evaluation, references, preprocess, counts, config)


def unread_sentences(config: ml_collections.ConfigDict) -> TextData:
    """What a config says of its sentences, with none of them read: shapes, and an assumed epoch."""
    check_name(config.data.name, TEXTS, 'data set of sentences')
    return TextData(UNREAD, UNREAD, UNREAD, None, {}, config)


def _training_rows(
    name: str, pairs: list[_Tokens], config: ml_collections.ConfigDict
) -> tuple[Rows, dict[str, int]]:
    """The rows to train on, and what became of the pairs, as `TextData.counts` has it."""
    text = config.text
    room = (text.max_length, text.max_length + 1)
    kept = [pair for pair in pairs if len(pair[0]) > 1 and len(pair[1]) > 2]
    counts = {'pairs': len(pairs), 'empty': len(pairs) - len(kept), 'dropped': 0}
    if text.too_long == 'drop':
        filled, kept = len(kept), [pair for pair in kept if _fit(pair, room) == pair]
        counts['dropped'] = filled - len(kept)
    if not kept:
        raise UserError(
            f'{name}: not one of {len(pairs)} sentence pairs has text on both sides and at '
            f'most {text.max_length} tokens (config.text.max_length)'
        )
    short = [_fit(pair, room) for pair in kept]
    counts |= {'kept': len(kept), 'cut': _differences(short, kept)}
    lengths = [(len(source), len(target)) for source, target in short]
    groups = pack(lengths, room, config.seed) if text.pack else [[i] for i in range(len(short))]
    rows = Rows(f'{name} in rows', *map(Ragged, zip(*short, strict=True)), groups, room)
    logger.info('%s: %d rows, %.1f %% of them padding', name, len(rows), 100 * rows.padding)
    return rows, counts


def _check_fit(config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> None:
    """UserError unless the model has room for all tokens and all positions."""
    model, text = config.model, config.text
    for key in ('vocab_size', 'source_vocab_size'):
        if model.get(key) is not None and tokenizer.size > model[key]:
            raise UserError(
                f'config.model.{key} is {model[key]}, but the tokenizer has {tokenizer.size} tokens; '
                'set it to config.text.vocab_size'
            )
    if model.get('positions') == 'learned' and model.max_positions < text.max_length:
        raise UserError(
            f'config.model.max_positions {model.max_positions} is less than config.text.max_length '
            f'{text.max_length}'
        )


def _sides(source: Source) -> tuple[list[str], list[str]]:
    examples = [source[index] for index in range(len(source))]
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
