import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from vitjax.data.text import TextPreprocess, cut
from vitjax.data.tokenizer import Tokenizer
from vitjax.errors import UserError


@pytest.fixture(scope='module')
def preprocess():
    tokenizer = Tokenizer.train(['ab cd ef', 'gh ij kl'] * 9, kind='unigram', vocab_size=300)
    return TextPreprocess(tokenizer, ('ko', 'en'), 40)


def test_call_returns_tokens_and_mask(preprocess):
    texts = ['ab cd', '', 'zz']
    source, mask = preprocess(texts)
    assert (source.shape, source.dtype, mask.shape, mask.dtype) == (
        (3, 16),
        np.int32,
        (3, 16),
        bool,
    )
    for row, real, text in zip(source, mask, texts, strict=True):
        assert row[real].tolist() == [*preprocess.tokenizer.encode(text), preprocess.eos]
        assert not row[~real].any()
    assert preprocess.decode(source) == texts


@pytest.mark.parametrize(
    ('letters', 'length'), [(1, 16), (14, 16), (15, 16), (16, 32), (31, 32), (32, 40), (39, 40)]
)
def test_call_pads_to_bucket_length(preprocess, letters, length, caplog):
    text = 'z' * (letters - 1)  # 'z' has no piece and the begin of a word has one
    assert len(preprocess.tokenizer.encode(text)) == letters - (letters == 1)
    assert preprocess(['', text])[0].shape == (2, length)
    assert not caplog.records


def test_call_truncates_long_texts_with_warning(preprocess, caplog):
    source, mask = preprocess(['ab', 'z' * 10_000])
    assert source.shape == (2, 40)
    assert mask[1].all()
    assert source[1, -1] == preprocess.eos
    assert caplog.record_tuples[0][1:] == (
        logging.WARNING,
        'cut 1 of 2 texts at 40 tokens, the longest of 10002',
    )


def test_call_accepts_no_text(preprocess):
    source, mask = preprocess([])
    assert source.shape == mask.shape == (0, 16)
    assert preprocess.decode(source) == []


def test_decode_stops_at_end_token(preprocess):
    tokens = preprocess.tokenizer.encode('ab cd')
    rows = [[preprocess.bos, *tokens, preprocess.eos, *tokens], tokens]
    assert preprocess.decode(rows) == ['ab cd', 'ab cd']


def test_load_equals_saved(preprocess, tmp_path):
    preprocess.save(tmp_path / 'run')
    loaded = TextPreprocess.load(tmp_path / 'run')
    assert (loaded.languages, loaded.max_length) == (('ko', 'en'), 40)
    np.testing.assert_array_equal(loaded(['gh kl'])[0], preprocess(['gh kl'])[0])


@pytest.mark.parametrize('content', ['{', '{}', '[]', '{"languages": ["ko"], "max_length": 3}'])
def test_load_reports_damaged_files(preprocess, tmp_path, content):
    preprocess.save(tmp_path)
    (tmp_path / 'text.json').write_text(content)
    with pytest.raises(UserError, match=r'text.json is damaged'):
        TextPreprocess.load(tmp_path)


def test_load_reports_missing_files(preprocess, tmp_path):
    with pytest.raises(UserError, match=r'not the folder of a run: it has no text.json'):
        TextPreprocess.load(tmp_path)
    preprocess.save(tmp_path)
    assert json.loads((tmp_path / 'text.json').read_text())['languages'] == ['ko', 'en']
    (tmp_path / 'tokenizer.model').unlink()
    with pytest.raises(UserError, match=r'cannot read .*tokenizer.model'):
        TextPreprocess.load(tmp_path)


def test_import_needs_no_sentencepiece():
    code = 'import sys, vitjax.data.text; print("sentencepiece" in sys.modules)'
    assert subprocess.check_output([sys.executable, '-c', code], text=True) == 'False\n'


@pytest.mark.parametrize(
    ('length', 'expected'), [(5, [7, 8, 9, 3]), (4, [7, 8, 9, 3]), (3, [7, 8, 3]), (1, [3])]
)
def test_cut_keeps_end_token(length, expected):
    assert cut([7, 8, 9, 3], length) == expected
