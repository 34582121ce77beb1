"""The data of translation, from `config.data` and `config.text`: tokenized and packed sentence pairs."""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.data.inputs import DataOptions
from vitjax.data.marian import MarianTokenizer
from vitjax.data.packing import Ragged, Rows, pack
from vitjax.data.sources import PLACEHOLDER_SPLIT
from vitjax.data.text import TextPreprocess, cut
from vitjax.data.tokenizer import Tokenizer
from vitjax.data.transforms import identity
from vitjax.errors import UserError
from vitjax.files import write_atomically
from vitjax.protocols import Batch, Source

logger = logging.getLogger(__name__)

_Tokens = tuple[list[int], list[int]]  # (source, target)


@dataclasses.dataclass(frozen=True)
class TextData:
    """Sentence pairs for training and for evaluation.

    Batches are dicts of the int32 arrays of `packing.Rows`, stacked to [B, S] and [B, T], and `mask`,
    bool [B]. A source sentence ends with the end token; a target sentence starts with the begin token and
    ends with the end token. The decoder's inputs are `target[:, :-1]` and its labels `target[:, 1:]`; a label
    counts if it is in the same segment as the input.

    Attributes:
      train: rows of max_length source and max_length + 1 target tokens, packed or not. Like the next two,
        `PLACEHOLDER_SPLIT` if it is not read.
      evaluation: one sentence pair per row; rows have the length of the longest.
      references: the sentence pairs of `evaluation` as text.
      preprocess: converts text to tokens and back; None if no data are read.
      counts: numbers of training pairs, if they were read ('pairs' = 'kept' + 'empty' + 'dropped'; of the
        kept ones, 'cut' are truncated), and of evaluation pairs ('eval_pairs'; 'eval_cut' are truncated).
      max_length: maximum number of tokens of a source sentence.
      seed: of the run.
      reading: how examples are read, see `DataOptions.reading`.
    """

    train: Rows | range
    evaluation: Rows | range
    references: Source | range
    preprocess: TextPreprocess | None
    counts: Mapping[str, int]
    max_length: int
    seed: int
    reading: Mapping[str, Any]

    labels = None

    @property
    def tokenizer(self) -> Tokenizer | MarianTokenizer:
        assert self.preprocess is not None, 'the data were opened without reading them'
        return self.preprocess.tokenizer

    def train_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Endless batches of this host's part, `batch_size` rows each."""
        from vitjax.data.pipeline import train_batches

        assert isinstance(self.train, Rows), 'the training data were not read'
        return train_batches(
            self.train,
            identity,
            batch_size=batch_size,
            seed=self.seed,
            shard=shard,
            **self.reading,
        )

    def eval_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Every sentence once and in order, in batches of this host's part; padding is masked."""
        from vitjax.data.pipeline import eval_batches

        assert isinstance(self.evaluation, Rows), 'the evaluation data were not read'
        return eval_batches(
            self.evaluation,
            identity,
            batch_size=batch_size,
            shard=shard,
            **self.reading,
        )

    def on_device(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """The batch, which needs no further preprocessing."""
        return batch

    def batch_shapes(self, batch_size: int, train: bool = True) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a global batch."""
        lengths = self.max_length, self.max_length + 1
        if not train and isinstance(self.evaluation, Rows):
            lengths = self.evaluation.lengths
        shapes = {'mask': jax.ShapeDtypeStruct((batch_size,), jnp.bool_)}
        for side, length in zip(('source', 'target'), lengths, strict=True):
            for name in (side, f'{side}_segment', f'{side}_position'):
                shapes[name] = jax.ShapeDtypeStruct((batch_size, length), jnp.int32)
        return shapes

    def save(self, folder: Path) -> None:
        """Writes the tokenizer, the languages and one example sentence into a run's folder."""
        assert self.preprocess is not None, 'the data were opened without reading them'
        assert not isinstance(self.references, range), 'the evaluation data were not read'
        self.preprocess.save(folder)
        write_atomically(folder / 'examples' / 'source.txt', self.references[0]['source'] + '\n')


def open_sentences(options: DataOptions, tokenizer: Tokenizer | None = None) -> TextData:
    """Opens the sentence pairs that a config names; the training pairs only if `options.training`.

    Unless a tokenizer is given, one is trained on the training split. The result is a function of the config.
    Training pairs with an empty side are left out. Training pairs with a side of more than
    `config.text.max_length` tokens are dropped or truncated; evaluation pairs are truncated.

    Raises:
      UserError: the data are not there or damaged, the vocabulary is too small, nothing is left.
    """
    text = options.text
    languages, max_length = (text['languages'][0], text['languages'][1]), text['max_length']
    if not options.read:
        options.open_both(languages)
        splits = PLACEHOLDER_SPLIT, PLACEHOLDER_SPLIT, PLACEHOLDER_SPLIT
        return TextData(*splits, None, {}, max_length, options.seed, options.reading)
    needed = options.training or tokenizer is None
    train, references = dataclasses.replace(options, training=needed).open_both(languages)
    sides = _sides(train) if needed else ([], [])
    if tokenizer is None:
        tokenizer = Tokenizer.train(
            itertools.chain(*sides), kind=text['tokenizer'], vocab_size=text['vocab_size']
        )
    _check_fit(options.model, max_length, tokenizer)
    room = (max_length, max_length + 1)
    rows: Rows | range = PLACEHOLDER_SPLIT
    counts: dict[str, int] = {}
    if options.training:
        rows, counts = _training_rows(train.name, _encode(tokenizer, *sides), text, options.seed)

    pairs = _encode(tokenizer, *_sides(references))
    short = [_fit(pair, room) for pair in pairs]
    counts |= {'eval_pairs': len(pairs), 'eval_cut': _differences(short, pairs)}
    sources, targets = zip(*short, strict=True)
    longest = max(map(len, sources)), max(map(len, targets))
    unpacked = [[number] for number in range(len(short))]
    evaluation = Rows(references.name, Ragged(sources), Ragged(targets), unpacked, longest)

    shown = ', '.join(f'{name} {count}' for name, count in counts.items())
    logger.info('sentences: %s; %d tokens', shown, tokenizer.size)
    preprocess = TextPreprocess(tokenizer, languages, max_length)
    return TextData(
        rows, evaluation, references, preprocess, counts, max_length, options.seed, options.reading
    )


def _training_rows(
    name: str, pairs: list[_Tokens], text: Mapping[str, Any], seed: int
) -> tuple[Rows, dict[str, int]]:
    """The rows of the training pairs, and their `TextData.counts`."""
    max_length = text['max_length']
    room = (max_length, max_length + 1)
    kept = [pair for pair in pairs if len(pair[0]) > 1 and len(pair[1]) > 2]
    counts = {'pairs': len(pairs), 'empty': len(pairs) - len(kept), 'dropped': 0}
    if text['too_long'] == 'drop':
        filled, kept = len(kept), [pair for pair in kept if _fit(pair, room) == pair]
        counts['dropped'] = filled - len(kept)
    if not kept:
        raise UserError(
            f'{name}: none of {len(pairs)} sentence pairs has text on both sides and at '
            f'most {max_length} tokens (config.text.max_length)'
        )
    short = [_fit(pair, room) for pair in kept]
    counts |= {'kept': len(kept), 'cut': _differences(short, kept)}
    lengths = [(len(source), len(target)) for source, target in short]
    groups = pack(lengths, room, seed) if text['pack'] else [[i] for i in range(len(short))]
    sources, targets = zip(*short, strict=True)
    rows = Rows(f'{name} in rows', Ragged(sources), Ragged(targets), groups, room)
    logger.info('%s: %d rows, %.1f %% of them padding', name, len(rows), 100 * rows.padding)
    return rows, counts


def _check_fit(model: nn.Module, max_length: int, tokenizer: Tokenizer) -> None:
    """UserError unless the model's vocabulary and positions are large enough."""
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
