"""Subword tokenizer: text to tokens and back, by sentencepiece.

Sources: Kudo and Richardson, SentencePiece, https://arxiv.org/abs/1808.06226; unigram: Kudo,
https://arxiv.org/abs/1804.10959; BPE: Sennrich et al., https://arxiv.org/abs/1508.07909.
"""

import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from vitjax.errors import UserError
from vitjax.files import write_atomically

_FILE = 'tokenizer.model'
_MAX_SENTENCES = 1_000_000  # for training; memory and time grow with them
_MAX_BYTES = 4192  # sentencepiece's default limit, above which it ignores a sentence


def normalise(text: str) -> str:
    """Normalises text before encoding: Unicode NFC, white space collapsed to single spaces.

    Lone surrogates, which are not characters, become U+FFFD. U+2581, which sentencepiece uses for a space,
    becomes a space.
    """
    text = re.sub('[\ud800-\udfff]', '\ufffd', text).replace('▁', ' ')
    return ' '.join(unicodedata.normalize('NFC', text).split())


def sentencepiece_processor(model: bytes) -> Any:
    """The processor of a serialized sentencepiece model; UserError if the bytes are not such a model."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise UserError(f'not a model of sentencepiece: {error}') from error
    return processor


class Tokenizer:
    """A sentencepiece model with fixed ids of the special tokens.

    Any text can be encoded: characters without a piece become bytes. `decode(encode(text))` equals
    `normalise(text)`.

    Args:
      model: serialized model, as in the file that `save` writes; UserError if it is invalid.
    """

    pad, unk, bos, eos = range(4)

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece_processor(model)

    @classmethod
    def train(
        cls, texts: Iterable[str], *, kind: Literal['unigram', 'bpe'], vocab_size: int
    ) -> 'Tokenizer':
        """Trains a tokenizer with at most `vocab_size` tokens; deterministic.

        Raises:
          UserError: `vocab_size` is too small for the characters of the texts, or there is no text.
        """
        import sentencepiece

        texts = [text for text in map(normalise, texts) if text]
        if not texts:
            raise UserError('there is no text to train a tokenizer on')
        step = -(-len(texts) // _MAX_SENTENCES) or 1
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts[::step]),
                model_writer=model,
                model_type=kind,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                byte_fallback=True,
                normalization_rule_name='identity',
                pad_id=cls.pad,
                unk_id=cls.unk,
                bos_id=cls.bos,
                eos_id=cls.eos,
                max_sentence_length=max(_MAX_BYTES, max(len(text.encode()) for text in texts)),
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            need = re.search(r'smaller than required_chars\. \d+ vs (\d+)', str(error))
            if not need:
                raise UserError(f'no tokenizer can be trained on these texts: {error}') from error
            raise UserError(
                f'config.text.vocab_size={vocab_size} is too small: the training data needs at '
                f'least {need[1]} for its characters'
            ) from error
        return cls(model.getvalue())

    @classmethod
    def load(cls, folder: Path) -> 'Tokenizer':
        """Reads what `save` wrote; UserError if it is missing or damaged."""
        path = folder / _FILE
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise UserError(f'cannot read {path}: {error.strerror}') from error
        except UserError as error:
            raise UserError(f'{path} is damaged: {error}') from error

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.model`."""
        write_atomically(folder / _FILE, self.model)

    @property
    def size(self) -> int:
        """Number of tokens, including special tokens."""
        return self._processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without begin and end token."""
        return self._processor.encode(normalise(text))

    def encode_all(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokens of each text; faster than `encode` in a loop."""
        return self._processor.encode(list(map(normalise, texts)), num_threads=1)

    def prefix(self, text: str) -> str:
        """The control prefix of a text, see `MarianTokenizer.prefix`; always empty here."""
        del text
        return ''

    def piece(self, token: int) -> str:
        """The text of a token; '▁' marks the start of a word."""
        return self._processor.id_to_piece(token)

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens -> text; special tokens are left out, unknown ids become ' ⁇ '."""
        known = [int(token) if token < self.size else self.unk for token in tokens]
        return self._processor.decode(known)
