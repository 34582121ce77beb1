"""The tokenizer of Marian's published translation models: two sentencepiece models, one vocabulary.

Source: MarianTokenizer of transformers. The tokens are the same, except for texts that contain the name of a
special token such as '</s>': here it is encoded as text.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vitjax.data.tokenizer import sentencepiece_processor
from vitjax.errors import UserError
from vitjax.files import write_atomically

_SOURCE, _TARGET, VOCABULARY = 'source.spm', 'target.spm', 'vocab.json'
_SPECIAL = ('<unk>', '</s>', '<pad>')


class MarianTokenizer:
    """Splits text by the sentencepiece model of its language; one vocabulary maps pieces to tokens.

    The target language that a multilingual model expects before a text, such as '>>kor<<', is one token.

    Args:
      source, target: contents of the files of the two sentencepiece models.
      vocabulary: piece -> token. It must have '<unk>', '</s>' and '<pad>', which is also the begin token
        of the decoder.

    Raises:
      UserError: invalid sentencepiece models or vocabulary.
    """

    def __init__(self, source: bytes, target: bytes, vocabulary: dict[str, int]):
        self._files = {_SOURCE: source, _TARGET: target}
        self._source, self._target = map(sentencepiece_processor, (source, target))
        if not all(type(token) is int and token >= 0 for token in vocabulary.values()):
            raise UserError('not a vocabulary: each piece has a number from 0 up')
        if missing := [piece for piece in _SPECIAL if piece not in vocabulary]:
            raise UserError(f'not a vocabulary: it has no {" and no ".join(missing)}')
        self._vocabulary = vocabulary
        self._pieces = {token: piece for piece, token in vocabulary.items()}
        self.unk, self.eos, self.pad = (vocabulary[piece] for piece in _SPECIAL)
        self.bos = self.pad
        self.size = max(self._pieces) + 1

    @classmethod
    def load(cls, folder: Path) -> 'MarianTokenizer':
        """Reads source.spm, target.spm and vocab.json; UserError if they are missing or damaged."""
        content = {}
        for name in (_SOURCE, _TARGET, VOCABULARY):
            try:
                content[name] = (folder / name).read_bytes()
            except OSError as error:
                raise UserError(f'cannot read {folder / name}: {error.strerror}') from error
        try:
            vocabulary = json.loads(content[VOCABULARY])
            if not isinstance(vocabulary, dict):
                raise ValueError('it holds no object')
        except (ValueError, RecursionError) as error:
            raise UserError(f'{folder / VOCABULARY} is damaged: {error}') from error
        try:
            return cls(content[_SOURCE], content[_TARGET], vocabulary)
        except UserError as error:
            raise UserError(f'{folder}: {error}') from error

    def save(self, folder: Path) -> None:
        """Writes what `load` reads."""
        for name, content in self._files.items():
            write_atomically(folder / name, content)
        write_atomically(folder / VOCABULARY, json.dumps(self._vocabulary, ensure_ascii=False))

    def encode(self, text: str) -> list[int]:
        """Tokens of a text in the source language, without begin and end token."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokens of each text; faster than `encode` in a loop."""
        # sentencepiece accepts no lone surrogates.
        cleaned = [re.sub('[\ud800-\udfff]', '\ufffd', text) for text in texts]
        prefixes = [self.prefix(text) for text in cleaned]
        rest = [text[len(prefix) :] for text, prefix in zip(cleaned, prefixes, strict=True)]
        pieces = self._source.encode(rest, out_type=str, num_threads=1)
        return [
            [self._vocabulary.get(piece, self.unk) for piece in ([prefix, *row] if prefix else row)]
            for prefix, row in zip(prefixes, pieces, strict=True)
        ]

    def prefix(self, text: str) -> str:
        """The target language token at the start of a text, such as '>>kor<<', or ''."""
        match = re.match(r'>>.*?<<', text, re.DOTALL)
        return match[0] if match else ''

    def piece(self, token: int) -> str:
        """The text of a token; '▁' marks the start of a word."""
        return self._pieces.get(token, _SPECIAL[0])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens in the target language, without special and unknown tokens."""
        pieces = (self.piece(int(token)) for token in tokens)
        text = self._target.decode([piece for piece in pieces if piece not in _SPECIAL])
        return text.replace('▁', ' ').strip()  # pieces of the source language keep '▁'
