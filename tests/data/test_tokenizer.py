import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vitjax.data import tokenizer as module
from vitjax.data.tokenizer import Tokenizer, normalise
from vitjax.errors import UserError

few = settings(max_examples=200, deadline=None)
KOREAN = ('저는 학생입니다.', '책을 읽었어요.', '어디에 갑니까?', '그녀는 서울에 살아요.')
ENGLISH = ('I am a student.', 'I read a book.', 'Where do you go?', 'She lives in Seoul.')
TEXTS = [f'{a} {b}' for side in (KOREAN, ENGLISH) for a in side for b in side for _ in range(3)]


@pytest.fixture(scope='module', params=['unigram', 'bpe'])
def kind(request):
    return request.param


@pytest.fixture(scope='module')
def tokenizer(kind):
    return Tokenizer.train(TEXTS, kind=kind, vocab_size=380)


@pytest.fixture(scope='module')
def unigram():
    return Tokenizer.train(TEXTS, kind='unigram', vocab_size=380)


def test_special_tokens_have_fixed_ids(tokenizer):
    assert (tokenizer.pad, tokenizer.unk, tokenizer.bos, tokenizer.eos) == (0, 1, 2, 3)
    pieces = [tokenizer._processor.id_to_piece(number) for number in range(4)]
    assert pieces == ['<pad>', '<unk>', '<s>', '</s>']
    assert tokenizer.decode([2, *tokenizer.encode('I read a book.'), 3, 0, 0]) == 'I read a book.'


def test_encode_spells_unknown_words(tokenizer):
    known, unknown = tokenizer.encode('I am a student.'), tokenizer.encode('꿹')
    assert len(known) < len('I am a student.')
    assert len(unknown) >= 3  # bytes, not one unknown token
    assert tokenizer.unk not in known + unknown


@few
@given(st.text(st.characters()) | st.text('가각힣ᄀ가▁<s>\x00\t 0a'))
@example('<s> </s> <pad> <unk> <0x41>')
@example('\x00\x07\x1b[0m\x7f')
@example('\ud800 alone \udfff')
@example('  ▁ wide\u3000space  ')
@example('👩\u200d👧 \uff46 \ufb01')
def test_decode_inverts_encode(unigram, text):
    tokens = unigram.encode(text)
    assert all(type(token) is int and 4 <= token < unigram.size for token in tokens)
    assert unigram.decode(tokens) == normalise(text)


@few
@given(st.lists(st.integers(0, 10**6)))
def test_decode_accepts_any_tokens(unigram, tokens):
    assert isinstance(unigram.decode(tokens), str)


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_encode_is_equal_for_jamo_and_syllables(tokenizer, form):
    for text in KOREAN:
        assert tokenizer.encode(unicodedata.normalize(form, text)) == tokenizer.encode(text)
    assert unicodedata.normalize('NFD', KOREAN[0]) != KOREAN[0]


def test_encode_collapses_white_space(tokenizer):
    assert tokenizer.encode('  I\tam\n a\u3000student. ') == tokenizer.encode('I am a student.')
    assert tokenizer.encode(' \n ') == []


def test_encode_all_equals_encode(tokenizer):
    texts = [*TEXTS, '', '\ud800']
    assert tokenizer.encode_all(texts) == [tokenizer.encode(text) for text in texts]


def test_train_is_deterministic(kind, tokenizer, tmp_path):
    assert Tokenizer.train(iter(TEXTS), kind=kind, vocab_size=380).model == tokenizer.model
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.size == tokenizer.size
    assert loaded.encode_all(TEXTS) == tokenizer.encode_all(TEXTS)


def test_train_may_return_smaller_vocabulary():
    assert 260 < Tokenizer.train(['ab ab'], kind='unigram', vocab_size=4000).size < 300


def test_train_samples_large_data_evenly(monkeypatch):
    monkeypatch.setattr(module, '_MAX_SENTENCES', 2)
    sampled = Tokenizer.train(['ab', 'x', 'cd', 'y'], kind='unigram', vocab_size=300)
    assert sampled.model == Tokenizer.train(['ab', 'cd'], kind='unigram', vocab_size=300).model


def test_train_refuses_too_small_vocabulary():
    with pytest.raises(
        UserError, match=r'config.text.vocab_size=265 is too small: .* at least 307'
    ):
        Tokenizer.train(TEXTS, kind='unigram', vocab_size=265)


@pytest.mark.parametrize(('content', 'message'), [(b'no model', 'is damaged'), (None, 'No such')])
def test_load_reports_damaged_files(tmp_path, content, message):
    path = tmp_path / 'tokenizer.model'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('texts', [[], ['', ' \n']])
def test_train_refuses_no_text(texts):
    with pytest.raises(UserError, match='there is no text to train a tokenizer on'):
        Tokenizer.train(texts, kind='unigram', vocab_size=300)


def test_train_uses_long_lines():
    word, line = 'gargantuan', ' '.join(['gargantuan'] * 500)
    tokenizer = Tokenizer.train(['a b', line], kind='unigram', vocab_size=300)
    assert len(tokenizer.encode(word)) < 4
