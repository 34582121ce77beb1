import pytest

import vitjax
from vitjax.errors import UserError
from vitjax.generation.translation import split, translate


@pytest.fixture(scope='module')
def pretrained(translator):
    return vitjax.load(translator)


def run(pretrained, texts, **options):
    return translate(
        pretrained.model, pretrained.variables, pretrained.preprocess, texts, **options
    )


@pytest.mark.parametrize('beam_size', [1, 3])
def test_translate_keeps_the_order_for_any_batch_size(pretrained, numbers, beam_size):
    texts = ['', *(korean for korean, _ in numbers[::7]), '  ', numbers[3][0]]
    wanted = ['', *(english for _, english in numbers[::7]), '', numbers[3][1]]
    for batch_size in (4, 32):
        found = run(pretrained, texts, beam_size=beam_size, batch_size=batch_size)
        assert [best[0].text for best in found] == wanted


def test_translate_returns_the_best_first(pretrained, numbers):
    [best] = run(pretrained, [numbers[20][0]], beam_size=3, n_best=3)
    assert best[0].text == numbers[20][1]
    assert len({one.text for one in best}) == 3
    assert [one.score for one in best] == sorted((one.score for one in best), reverse=True)


def test_translate_splits_a_long_text(pretrained, numbers):
    korean, english = numbers[11]
    text = ' '.join([korean] * 40)
    parts = split(pretrained.preprocess, text)
    assert len(parts) > 3
    [[found]] = run(pretrained, [text])
    assert found.text == ' '.join(best[0].text for best in run(pretrained, parts))
    assert english in found.text


def test_split_into_sentences_or_between_words(pretrained):
    preprocess = pretrained.preprocess
    text = '일 이 삼. ' * 9 + '삼' * 50
    parts = split(preprocess, text)
    assert ''.join(parts).replace(' ', '') == text.replace(' ', '')
    assert all(preprocess.length(part) <= preprocess.max_length for part in parts)
    assert parts[:9] == ['일 이 삼.'] * 9
    assert split(preprocess, '일 이') == ['일 이']


def test_translate_accepts_any_text(pretrained):
    texts = ['hello', '\x00\x07', '\u1100\u1161', 'e\u0301 🙂', '\ud800', '▁']
    assert all(isinstance(best[0].text, str) for best in run(pretrained, texts))


@pytest.mark.parametrize(
    'options', [{'n_best': 2}, {'n_best': 0}, {'beam_size': 0}, {'batch_size': 0}]
)
def test_translate_refuses_options_out_of_range(pretrained, options):
    with pytest.raises(UserError, match='n_best must be from 1 to beam_size, batch_size at least'):
        translate(pretrained.model, pretrained.variables, pretrained.preprocess, ['a'], **options)
