import logging
from pathlib import Path

import pytest

from vitjax.data import libreoffice
from vitjax.data.libreoffice import plain_text, without_near_duplicates
from vitjax.data.sources import open_source
from vitjax.errors import UserError

INSTALLED = all(Path(libreoffice._ROOT, name).is_dir() for name in ('ko', 'en-US'))


def page(paragraphs):
    return '<html><body>' + '\n'.join(
        f'<{tag} id="{key}" class="paragraph" dir="auto">{markup}</{tag}>'
        for tag, key, markup in paragraphs
    )


@pytest.fixture
def help_folder(tmp_path):
    def write(language, name, *paragraphs):
        file = tmp_path / language / 'text' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page(paragraphs))

    for number in range(60):
        name = f'swriter/{number}.html'
        own = ('p', 'par_id1', f'그림{chr(ord("가") + number)} 넣기')
        write('ko', name, own, ('h2', 'hd_id2', '열기'), ('p', 'par_id3', 'not translated'))
        own = (
            'p',
            'par_id1',
            f'Insert <b>{chr(97 + number % 26) * (1 + number // 26)}</b> picture',
        )
        write('en-US', name, own, ('h2', 'hd_id2', 'Open'), ('p', 'par_id3', 'not translated'))
    write('ko', 'a.html', ('p', 'par_id1', '앞'), ('p', 'par_id2', '혼자'), ('h1', 'hd_x', '<br>'))
    write('en-US', 'a.html', ('p', 'par_id1', 'front'), ('h1', 'hd_x', 'Title'))
    write('ko', 'only.html', ('p', 'par_id1', '한국어'))
    return tmp_path


def pairs(path, split, languages=('ko', 'en')):
    source = open_source('libreoffice', split, path and str(path), languages)
    return [tuple(source[index].values()) for index in range(len(source))]


def test_splits_pair_paragraphs_by_file_and_id(help_folder):
    everything = pairs(help_folder, 'train+valid+test')
    assert ('앞', 'front') in everything
    assert ('그림가 넣기', 'Insert a picture') in everything
    assert everything.count(('열기', 'Open')) == 1
    assert len(everything) == 60 + 2  # what has no translation or no text is left out
    assert pairs(help_folder, 'train+valid+test', ('en', 'ko'))[0] == everything[0][::-1]


def test_splits_are_whole_documents(help_folder):
    for split in ('train', 'valid', 'test'):
        for korean, _ in pairs(help_folder, split):
            if korean.startswith('그림'):
                name = f'swriter/{ord(korean[2]) - ord("가")}.html'
                assert libreoffice._split_of(name) == split


def test_splits_name_missing_packages(tmp_path):
    with pytest.raises(
        UserError, match=r'apt install libreoffice-help-ko libreoffice-help-en-us$'
    ) as caught:
        pairs(tmp_path, 'train')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('markup', 'text'),
    [
        ('Choose <span class="menuitem">Table &amp; Cell</span>.', 'Choose Table & Cell.'),
        ('one<br>two\n   three', 'one two three'),
        ('a <a href="x"><img src="y" alt="z"></a> b', 'a b'),
        (
            'Press <span id="s" class="switchinline"><span hidden="true" class="MAC">'
            '<span class="key">Command</span></span><span hidden="true" id="default">'
            '<span class="key">Ctrl</span></span></span><span class="key">+F7</span>.',
            'Press Ctrl+F7.',
        ),
        (
            'In <span class="switchinline"><span hidden="true" class="CALC">cells</span> '
            '<span hidden="true" class="WRITER">text</span></span> only',
            'In text only',
        ),
        (
            '<span class="switchinline"><span hidden="true" class="MAC">Only there</span>'
            '<span hidden="true" id="default"></span></span>',
            '',
        ),
    ],
)
def test_plain_text(markup, text):
    assert plain_text(markup) == text


@pytest.mark.parametrize(
    ('pair', 'near'),
    [
        (('차트를 새로 만듭니다.', 'something else'), True),  # one side is enough
        (('무언가', 'creates a NEW chart'), True),  # case and punctuation
        (('무언가', 'Creates 25 rows and columns, not 7.'), True),  # numbers
        (('무언가', 'Creates a big new chart.'), True),
        (('무언가', 'Deletes the old chart.'), False),
        (('무언가', 'Chart'), False),
        (('삭제', 'Delete'), False),
    ],
)
def test_without_near_duplicates(pair, near):
    held_out = [
        ('차트를 새로 만듭니다.', 'Creates a new chart.'),
        ('행과 열', 'creates 3 rows and columns, not 12'),
    ]
    assert without_near_duplicates([pair], held_out) == ([] if near else [pair])


def test_splits_log_number_of_near_duplicates(help_folder, caplog):
    with caplog.at_level(logging.INFO):
        # Headings that only differ in a number are the same.
        for number in range(60):
            for language, text in (('ko', f'제목 {number}'), ('en-US', f'Title {number}')):
                file = help_folder / language / 'text/swriter' / f'{number}.html'
                file.write_text(page([('p', 'par_id9', text)]))
        train = pairs(help_folder, 'train')
    assert train == [('앞', 'front')]
    (record,) = caplog.records
    held_out = len(pairs(help_folder, 'valid+test'))
    assert record.getMessage() == (
        f'libreoffice: {60 - held_out} of {61 - held_out} training pairs are near-duplicates of '
        'valid or test and left out'
    )


@pytest.mark.skipif(not INSTALLED, reason='needs libreoffice-help-ko and libreoffice-help-en-us')
def test_splits_read_installed_help():
    parts = {split: pairs(None, split) for split in ('train', 'valid', 'test')}
    assert len(parts['train']) > 10_000
    for held_out in ('valid', 'test'):
        assert 0.02 < len(parts[held_out]) / len(parts['train']) < 0.15
        assert not set(parts[held_out]) & set(parts['train'])
    sides = [set(side) for side in zip(*parts['train'], strict=True)]
    for pair in parts['valid'] + parts['test']:
        assert pair[0] not in sides[0]
        assert pair[1] not in sides[1]
    assert not any('CommandCtrl' in text for pair in parts['train'] for text in pair)
