"""From a text as it is written to what a translation model takes, and back."""

import dataclasses
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from vitjax.data.tokenizer import Tokenizer
from vitjax.errors import UserError
from vitjax.files import read_json, write_atomically

logger = logging.getLogger(__name__)

_SHORTEST = 16


@dataclasses.dataclass(frozen=True)
class TextPreprocess:
    """Encodes sentences for a model and decodes what it answers.

    Attributes:
      tokenizer: of both languages.
      languages: (source, target), as 'ko' and 'en'.
      max_length: tokens of a sentence and its end that the model takes at most.
    """

    tokenizer: Tokenizer
    languages: tuple[str, str]
    max_length: int

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Texts -> tokens int32 [B, S], with the end and padded with 0, and mask bool [B, S].

        S is the smallest of 16, 32, 64 ... and `max_length` that holds them all, so that few shapes
        have to be compiled. A longer text is cut at `max_length`, with a warning.
        """
        sentences = [[*tokens, self.eos] for tokens in self.tokenizer.encode_all(texts)]
        longest = max(map(len, sentences), default=1)
        too_long = sum(len(tokens) > self.max_length for tokens in sentences)
        if too_long:
            logger.warning(
                'cut %d of %d texts at %d tokens, the longest of %d',
                *(too_long, len(sentences), self.max_length, longest),
            )
        length = _SHORTEST
        while length < longest:
            length *= 2
        length = min(length, self.max_length)
        source = np.full((len(sentences), length), self.pad, np.int32)  # [B, S]
        for row, tokens in zip(source, sentences, strict=True):
            tokens = cut(tokens, length)
            row[: len(tokens)] = tokens
        return source, source != self.pad

    def length(self, text: str) -> int:
        """Tokens of a text and its end."""
        return len(self.tokenizer.encode(text)) + 1

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """How each token is written; '▁' marks the beginning of a word."""
        return [self.tokenizer.piece(int(token)) for token in tokens]

    def decode(self, tokens: Iterable[Sequence[int]]) -> list[str]:
        """Texts of rows of tokens [B, T], each up to its end token."""
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
        """Writes `tokenizer.model` and `text.json`."""
        self.tokenizer.save(folder / 'tokenizer.model')
        values = {'languages': self.languages, 'max_length': self.max_length}
        write_atomically(folder / 'text.json', json.dumps(values, indent=2) + '\n')

    @classmethod
    def load(cls, folder: Path) -> 'TextPreprocess':
        """Reads what `save` wrote; UserError if it is missing or damaged."""
        values = read_json(folder / 'text.json')
        try:
            source, target = values['languages']
            max_length = int(values['max_length'])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f'{folder / "text.json"} is damaged: {error!r}') from error
        return cls(Tokenizer.load(folder / 'tokenizer.model'), (source, target), max_length)


def cut(tokens: list[int], length: int) -> list[int]:
    """At most `length` tokens of a sentence; the last one, its end, stays.

    >>> cut([7, 8, 9, 3], 3)
    [7, 8, 3]
    """
    return tokens if len(tokens) <= length else [*tokens[: length - 1], tokens[-1]]
