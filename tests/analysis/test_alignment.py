import numpy as np
import pytest

import vitjax
from vitjax.analysis import alignment
from vitjax.errors import UserError


@pytest.fixture(scope='module')
def pretrained(translator):
    return vitjax.load(translator)


def test_alignment_has_weights_of_each_target_token_over_the_source(pretrained, numbers):
    korean, english = numbers[12]
    source, target, weights = alignment.alignment(pretrained, korean)
    assert ''.join(source[:-1]).replace('▁', ' ').strip() == korean
    assert ''.join(target[:-1]).replace('▁', ' ').strip() == english
    assert weights.shape == (len(target), len(source))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


def test_draw_alignment_writes_a_picture_or_names_the_package(pretrained, numbers, tmp_path):
    try:
        alignment.font_for('한')
    except UserError:
        pytest.skip('no font with Hangul on this machine; the error names the package')
    alignment.draw_alignment(pretrained, numbers[12][0], tmp_path / 'map.png')
    assert (tmp_path / 'map.png').read_bytes().startswith(b'\x89PNG')
    with pytest.raises(UserError, match='cannot be written'):
        alignment.draw_alignment(pretrained, numbers[12][0], tmp_path / 'no' / 'map.png')


def test_font_for_searches_once_and_only_for_hangul(monkeypatch):
    from matplotlib import font_manager

    font, looked = font_manager.findfont('DejaVu Sans'), []
    monkeypatch.setattr(font_manager, 'findSystemFonts', lambda: looked.append(1) or [font])
    monkeypatch.setattr('matplotlib.ft2font.FT2Font.get_char_index', lambda *_: 1)
    alignment._hangul_font.cache_clear()
    assert alignment.font_for('Ça va ? Да 1').get_file() is None
    assert not looked
    for text in ('a한', 'ㅋ', 'ᄀ'):
        assert alignment.font_for(text).get_file() == font
    assert len(looked) == 1
    alignment._hangul_font.cache_clear()


def test_font_for_names_a_package_if_there_is_no_font(monkeypatch):
    monkeypatch.setattr('matplotlib.font_manager.findSystemFonts', lambda: [])
    alignment._hangul_font.cache_clear()
    with pytest.raises(UserError, match='fonts-nanum'):
        alignment.font_for('한')
