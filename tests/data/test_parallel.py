import pickle

import pytest

from vitjax.data.sources import open_source
from vitjax.errors import UserError

KOREAN, ENGLISH = ('안녕하세요.', '네.', '아니요.'), ('Hello.', 'Yes.', 'No.')
PAIRS = [{'source': k, 'target': e} for k, e in zip(KOREAN, ENGLISH, strict=True)]


def write(folder, files):
    for name, content in files.items():
        content = content if isinstance(content, bytes) else '\n'.join(content).encode()
        (folder / name).write_bytes(content)


def opened(folder, split='train', languages=('ko', 'en')):
    source = open_source('parallel', split, str(folder), languages)
    return [source[index] for index in range(len(source))]


ENDS = {'newline': '\n', 'none': '', 'CRLF': '\r\n'}


@pytest.mark.parametrize('end', ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'], ids=['', 'BOM'])
def test_splits_of_two_files_equal_those_of_tsv(tmp_path, end, mark):
    newline = end or '\n'

    def text(lines):
        return mark + (newline.join(lines) + end).encode()

    rows = [f'{pair["source"]}\t{pair["target"]}' for pair in PAIRS]
    files = {'train.ko': text(KOREAN), 'train.en': text(ENGLISH), 'valid.tsv': text(rows)}
    write(tmp_path, files)
    assert opened(tmp_path) == opened(tmp_path, 'valid') == PAIRS
    assert opened(tmp_path, 'train[1:]+valid[:1]') == [*PAIRS[1:], PAIRS[0]]


def test_splits_find_files_by_language(tmp_path):
    write(
        tmp_path, {'train.ko': KOREAN, 'train.en': ENGLISH, 'train.de': ['Hallo.', 'Ja.', 'Nein.']}
    )
    assert opened(tmp_path, languages=('en', 'ko'))[0] == {
        'source': 'Hello.',
        'target': '안녕하세요.',
    }
    assert opened(tmp_path, languages=('ko', 'de'))[2]['target'] == 'Nein.'


def test_splits_end_lines_at_newlines_only(tmp_path):
    odd = 'one\u2028two\x0bthree\x85four\rfive'
    write(tmp_path, {'train.ko': [odd, '', '끝'], 'train.en': ['a', '', 'b']})
    assert [pair['source'] for pair in opened(tmp_path)] == [odd, '', '끝']


def test_source_describes_sentences_and_pickles(tmp_path):
    write(tmp_path, {'test.ko': KOREAN, 'test.en': ENGLISH})
    source = open_source('parallel', 'test', str(tmp_path), ('ko', 'en'))
    assert source.labels is None
    assert source.describe(2) == f'sentence 2 of {tmp_path}/test'
    assert pickle.loads(pickle.dumps(source))[1] == PAIRS[1]


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({}, r'neither files such as train.ko and train.en nor train.tsv; config.text.languages'),
        ({'train.en': ENGLISH}, 'neither files such as'),
        ({'train.ko': KOREAN}, r'cannot read .*train\.en: No such file'),
        ({'test.ko': KOREAN, 'test.en': ENGLISH}, "has no split 'train'; it has test"),
        (
            {'train.ko': KOREAN, 'train.en': ENGLISH[:2]},
            r'train\.ko has 3 lines but .*train\.en has 2; line n of one must translate line n',
        ),
        ({'train.ko': KOREAN, 'train.en': b'a\nb\n\xff\n'}, r'train\.en, line 3 is not UTF-8'),
        (
            {'train.tsv': b'\xef\xbb\xbfa\tb\n\xff\xfe\tb\n'},
            r'train\.tsv, line 2 is not UTF-8; convert it',
        ),
        ({'train.ko': b'', 'train.en': b''}, r'train holds no sentences'),
        ({'train.tsv': b''}, r'train\.tsv holds no sentences'),
        ({'train.tsv': ['a\tb', 'a b']}, r'train\.tsv, line 2: .* but it has 1 columns'),
        ({'train.tsv': ['a\tb\tc']}, r'train\.tsv, line 1: .* but it has 3 columns'),
    ],
)
def test_splits_report_malformed_files(tmp_path, files, message):
    write(tmp_path, files)
    with pytest.raises(UserError, match=message) as caught:
        opened(tmp_path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('path', 'message'), [(None, 'needs config.data.path'), ('/no/such', "no folder '/no/such'")]
)
def test_splits_report_missing_folder(path, message):
    with pytest.raises(UserError, match=message):
        open_source('parallel', 'train', path, ('ko', 'en'))


def test_open_source_suggests_name_of_data_set():
    with pytest.raises(UserError, match="unknown data set 'paralel'; did you mean 'parallel'"):
        open_source('paralel', languages=('ko', 'en'))
