"""Text to numbers and back: subword tokens by sentencepiece.

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
_SENTENCES = 1_000_000  # that training sees at most; memory and time grow with them
_LONGEST = 4192  # bytes above which sentencepiece would leave a sentence out, unless told otherwise


def normalise(text: str) -> str:
    """What is encoded: Unicode's composed form (NFC), any white space as one space.

    Lone surrogates, which are no characters, become U+FFFD, and sentencepiece's own mark of a space,
    U+2581, a space.
    """
    text = re.sub('[\ud800-\udfff]', '\ufffd', text).replace('▁', ' ')
    return ' '.join(unicodedata.normalize('NFC', text).split())


def sentencepiece_processor(model: bytes) -> Any:
    """What encodes and decodes with a trained model; UserError if the bytes are none."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise UserError(f'not a model of sentencepiece: {error}') from error
    return processor


class Tokenizer:
    """A sentencepiece model with the special tokens at fixed places.

    Any text can be encoded, for what has no piece is spelled in bytes, and `decode(encode(text))` is
    `normalise(text)`.

    Args:
      model: what `save` writes; UserError if it is something else.
    """

    pad, unk, bos, eos = range(4)

    def __init__(self, model: bytes):
        self.model = model
        self._processor = sentencepiece_processor(model)

    @classmethod
    def train(
        cls, texts: Iterable[str], *, kind: Literal['unigram', 'bpe'], vocab_size: int
    ) -> 'Tokenizer':
        """A tokenizer with at most `vocab_size` tokens for texts like these; the same for the same texts.

        Raises:
          UserError: so small a vocabulary cannot even hold the characters, or there is no text.
        """
        import sentencepiece

        texts = [text for text in map(normalise, texts) if text]
        if not texts:
            raise UserError('there is no text to train a tokenizer on')
        step = -(-len(texts) // _SENTENCES) or 1
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
                max_sentence_length=max(_LONGEST, max(len(text.encode()) for text in texts)),
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
        """Number of tokens, special ones included."""
        return self._processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without begin and end."""
        return self._processor.encode(normalise(text))

    def encode_all(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokens of each text; faster than one after another."""
        return self._processor.encode(list(map(normalise, texts)), num_threads=1)

    def prefix(self, text: str) -> str:
        """What stands before a text and is none of it: here nothing."""
        del text
        return ''

    def piece(self, token: int) -> str:
        """How a token is written; '▁' marks the beginning of a word."""
        return self._processor.id_to_piece(token)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; special ones stand for nothing, unknown numbers for ' ⁇ '."""
        known = [int(token) if token < self.size else self.unk for token in tokens]
        return self._processor.decode(known)
