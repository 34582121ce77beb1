"""Preprocessing of text for translation models: text to tokens and back."""

import dataclasses
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vitjax.data.marian import VOCABULARY, MarianTokenizer
from vitjax.data.tokenizer import Tokenizer
from vitjax.errors import UserError
from vitjax.files import read_json, write_atomically

logger = logging.getLogger(__name__)

_MIN_LENGTH = 16  # padded length of the shortest batches


@dataclasses.dataclass(frozen=True)
class SearchRules:
    """Options of the search for translations; see `vitjax.generation`.

    The defaults are for models trained with vitjax; published models have their own.

    Attributes:
      suppress: tokens that are never generated; None for the begin token and padding.
      longest: maximum number of tokens of a translation; None for no limit.
      forced_eos, renormalise: see `vitjax.generation.greedy`.
      length_penalty, length_normalisation, early_stop: see `vitjax.generation.beam_search`.
    """

    suppress: tuple[int, ...] | None = None
    longest: int | None = None
    forced_eos: bool = False
    renormalise: bool = True
    length_penalty: float = 0.6
    length_normalisation: str = 'gnmt'
    early_stop: str = 'exact'


@dataclasses.dataclass(frozen=True)
class TextPreprocess:
    """Encodes sentences for a model and decodes its output.

    Attributes:
      tokenizer: of both languages.
      languages: (source, target), such as ('ko', 'en').
      max_length: maximum number of source tokens, including the end token.
      search: options of the search for translations.
    """

    tokenizer: Tokenizer | MarianTokenizer
    languages: tuple[str, str]
    max_length: int
    search: SearchRules = SearchRules()

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts -> tokens int32 [B, S] with end token and padding, and mask bool [B, S].

        S is the smallest of 16, 32, 64 ... and `max_length` that is long enough for all, so that few shapes
        are compiled. Texts of more than `max_length` tokens are truncated, with a warning.
        """
        sentences = [[*tokens, self.eos] for tokens in self.tokenizer.encode_all(texts)]
        longest = max(map(len, sentences), default=1)
        too_long = sum(len(tokens) > self.max_length for tokens in sentences)
        if too_long:
            logger.warning(
                'cut %d of %d texts at %d tokens, the longest of %d',
                *(too_long, len(sentences), self.max_length, longest),
            )
        length = _MIN_LENGTH
        while length < longest:
            length *= 2
        length = min(length, self.max_length)
        source = np.full((len(sentences), length), self.pad, np.int32)  # [B, S]
        for row, tokens in zip(source, sentences, strict=True):
            tokens = cut(tokens, length)
            row[: len(tokens)] = tokens
        return source, source != self.pad

    def length(self, text: str) -> int:
        """Number of tokens of a text, including the end token."""
        return len(self.tokenizer.encode(text)) + 1

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token; '▁' marks the start of a word."""
        return [self.tokenizer.piece(int(token)) for token in tokens]

    def decode(self, tokens: Iterable[Sequence[int]]) -> list[str]:
        """Rows of tokens [B, T] -> texts; a row ends at its end token."""
        return [self.tokenizer.decode(self._until_end(list(row))) for row in tokens]

    def _until_end(self, tokens: list[int]) -> list[int]:
        return tokens[: tokens.index(self.eos)] if self.eos in tokens else tokens

    @property
    def pad(self) -> int:
        return self.tokenizer.pad

    @property
    def bos(self) -> int:
        return self.tokenizer.bos

    @property
    def eos(self) -> int:
        return self.tokenizer.eos

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files and `text.json`."""
        self.tokenizer.save(folder)
        values = {'languages': self.languages, 'max_length': self.max_length}
        values['search'] = dataclasses.asdict(self.search)
        write_atomically(folder / 'text.json', json.dumps(values, indent=2) + '\n')

    @classmethod
    def load(cls, folder: Path) -> 'TextPreprocess':
        """Reads what `save` wrote; UserError if it is missing or damaged."""
        values = read_json(folder / 'text.json')
        try:
            source, target = values['languages']
            max_length = int(values['max_length'])
            rules = values.get('search', {})
            if rules.get('suppress') is not None:
                rules['suppress'] = tuple(rules['suppress'])
            search = SearchRules(**rules)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f'{folder / "text.json"} is damaged: {error!r}') from error
        kind = MarianTokenizer if (folder / VOCABULARY).is_file() else Tokenizer
        return cls(kind.load(folder), (source, target), max_length, search)


def cut(tokens: list[int], length: int) -> list[int]:
    """Truncates a sentence to `length` tokens, keeping its last one, the end token.

    >>> cut([7, 8, 9, 3], 3)
    [7, 8, 3]
    """
    return tokens if len(tokens) <= length else [*tokens[: length - 1], tokens[-1]]
