import itertools
import logging
import pickle

import numpy as np
import pytest

from vitjax.config import base_config
from vitjax.data.inputs import DataOptions
from vitjax.data.sentences import open_sentences
from vitjax.data.text import TextPreprocess
from vitjax.errors import UserError
from vitjax.models.registry import create_model

KEYS = (
    'source',
    'source_segment',
    'source_position',
    'target',
    'target_segment',
    'target_position',
)
WORDS = ['가', '나', '다', '라', '마', '바', '사', '아']
LETTERS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']


def corpus(count):
    """Sentences of 1 to 6 words, all different, which are translated word by word."""
    numbers = itertools.islice(
        itertools.chain.from_iterable(
            itertools.product(range(len(WORDS)), repeat=length) for length in (1, 2, 3, 4, 5, 6)
        ),
        0,
        None,
        7,
    )
    chosen = list(itertools.islice(numbers, count))
    return [' '.join(table[n] for n in words) for table in (WORDS, LETTERS) for words in chosen]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('corpus')
    lines = corpus(300)
    parts = {'train': slice(0, 270), 'test': slice(270, 300)}
    for split, part in parts.items():
        (path / f'{split}.ko').write_text('\n'.join(lines[:300][part]))
        (path / f'{split}.en').write_text('\n'.join(lines[300:][part]))
    return path


def opened(path, seed=0, split='train', **text):
    config = base_config()
    config.seed = seed
    config.data.update({'name': 'parallel', 'path': str(path), 'train_split': split, 'threads': 2})
    config.text.update({'vocab_size': 300, 'max_length': 16} | text)
    config.model = {'name': 'transformer', 'vocab_size': 300}
    options = DataOptions(
        config.data, config.text, config.augment, seed, create_model(**dict(config.model))
    )
    return open_sentences(options)


@pytest.fixture(scope='module')
def packed(folder):
    return opened(folder)


@pytest.fixture(scope='module')
def single(folder):
    return opened(folder, pack=False)


def take(data, steps, batch_size=8, shard=(0, 1), start=0, split='train'):
    batches = data.train_batches if split == 'train' else data.eval_batches
    iterator = iter(batches(batch_size, shard))
    if start:
        iterator.set_state({'step': start})
    taken = list(itertools.islice(iterator, steps))
    iterator.close()
    return taken


def pairs_in(data, batch):
    """Texts of the sentences of a batch, row after row."""
    found = []
    for row in range(len(batch['mask'])):
        for number in range(1, batch['source_segment'][row].max() + 1):
            source, target = (
                batch[side][row][batch[f'{side}_segment'][row] == number].tolist()
                for side in ('source', 'target')
            )
            assert source[-1] == target[-1] == data.tokenizer.eos
            assert target[0] == data.tokenizer.bos
            assert data.tokenizer.bos not in [*source, *target[1:]]
            found.append(tuple(map(data.tokenizer.decode, (source, target))))
    return found


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for batch, other in zip(batches, others, strict=True):
        for key in (*KEYS, 'mask'):
            np.testing.assert_array_equal(batch[key], other[key])


@pytest.mark.parametrize('name', ['packed', 'single'])
def test_train_batches_have_every_pair_once_per_epoch(request, folder, name):
    data = request.getfixturevalue(name)
    (batch,) = take(data, 1, batch_size=len(data.train))
    assert {key: (value.shape[1:], value.dtype) for key, value in batch.items()} == {
        **{key: ((16 + key.startswith('target'),), np.int32) for key in KEYS},
        'mask': ((), bool),
    }
    lines = [(folder / f'train.{name}').read_text().split('\n') for name in ('ko', 'en')]
    assert sorted(pairs_in(data, batch)) == sorted(zip(*lines, strict=True))
    assert len(data.train) < 120 if name == 'packed' else len(data.train) == 270
    assert data.train.padding < 0.3 if name == 'packed' else data.train.padding > 0.5


def test_eval_batches_have_one_sentence_per_row_in_order(packed, single):
    batches = take(packed, 9, split='eval')
    assert [batch['mask'].sum() for batch in batches] == [8, 8, 8, 6]
    assert not any(batches[-1][key][6:].any() for key in KEYS)
    found = [pair for batch in batches for pair in pairs_in(packed, batch)]
    assert found == [tuple(packed.references[index].values()) for index in range(30)]
    assert batches[0]['source_segment'].any(axis=1).all()
    assert max(batch['source_segment'].max() for batch in batches) == 1
    longest = max((batch['source'] != 0).sum(axis=1).max() for batch in batches)
    assert batches[0]['source'].shape[1] == longest
    assert_same(batches, take(single, 9, split='eval'))


def test_train_batches_resume_from_state(packed):
    assert_same(take(packed, 20)[12:], take(packed, 8, start=12))


@pytest.mark.parametrize('split', ['train', 'eval'])
def test_batches_of_hosts_concatenate_to_global_batch(packed, split):
    whole = take(packed, 3, batch_size=8, split=split)
    halves = [take(packed, 3, batch_size=4, shard=(host, 2), split=split) for host in (0, 1)]
    joined = [
        {key: np.concatenate([first[key], second[key]]) for key in first}
        for first, second in zip(*halves, strict=True)
    ]
    assert_same(whole, joined)


def test_open_sentences_is_a_function_of_config_and_seed(folder, packed):
    again, other = opened(folder), opened(folder, seed=1)
    assert again.tokenizer.model == packed.tokenizer.model == other.tokenizer.model
    assert_same(take(packed, 4), take(again, 4))
    rows = [
        {tuple(data.train[i]['source']) for i in range(len(data.train))} for data in (packed, other)
    ]
    assert rows[0] != rows[1]


def test_rows_can_be_pickled(packed):
    again = pickle.loads(pickle.dumps(packed.train))
    np.testing.assert_array_equal(again[3]['target'], packed.train[3]['target'])


LONG = ('가 ' * 40, 'a ' * 40)
SHORT = ('가 나', 'a b')


@pytest.fixture(scope='module')
def uneven(tmp_path_factory):
    path = tmp_path_factory.mktemp('uneven')
    pairs = [SHORT, LONG, ('', 'a'), ('가', ' '), (LONG[0], 'a'), ('가', LONG[1]), ('', '')]
    for split in ('train', 'test'):
        (path / f'{split}.tsv').write_text('\n'.join('\t'.join(pair) for pair in pairs))
    return path


@pytest.mark.parametrize(
    ('too_long', 'counts'),
    [
        ('drop', {'dropped': 3, 'kept': 1, 'cut': 0}),
        ('cut', {'dropped': 0, 'kept': 4, 'cut': 3}),
    ],
)
def test_open_sentences_counts_long_and_empty_sentences(uneven, too_long, counts, caplog):
    with caplog.at_level(logging.INFO):
        data = opened(uneven, too_long=too_long, pack=False, max_length=8)
    expected = {'pairs': 7, 'empty': 3, 'eval_pairs': 7, 'eval_cut': 3} | counts
    assert data.counts == expected
    for name, count in expected.items():
        assert f'{name} {count}' in caplog.text
    assert f'{100 * data.train.padding:.1f} % of them padding' in caplog.text
    assert len(data.train) == counts['kept']
    if too_long == 'cut':
        assert [int((data.train[1][side] > 0).sum()) for side in ('source', 'target')] == [8, 9]
        assert data.train[1]['source'][-1] == data.train[1]['target'][-1] == data.tokenizer.eos
    # Evaluation leaves nothing out, not even a sentence without text.
    assert len(data.evaluation) == 7
    assert data.evaluation.lengths == (8, 9)


def test_jamo_and_syllables_have_the_same_tokens(folder, packed, tmp_path):
    import unicodedata

    for file in folder.iterdir():
        (tmp_path / file.name).write_text(unicodedata.normalize('NFD', file.read_text()))
    assert_same(take(packed, 2), take(opened(tmp_path), 2))


def test_save_writes_tokenizer_and_example(packed, tmp_path):
    packed.save(tmp_path)
    text = (tmp_path / 'examples/source.txt').read_text()
    assert text == packed.references[0]['source'] + '\n'
    preprocess = TextPreprocess.load(tmp_path)
    assert (preprocess.languages, preprocess.max_length) == (('ko', 'en'), 16)
    source, mask = preprocess([text])
    np.testing.assert_array_equal(source[mask], [*packed.tokenizer.encode(text), preprocess.eos])
    assert packed.on_device({'mask': mask}) == {'mask': mask}


@pytest.mark.parametrize(
    ('split', 'text', 'message'),
    [
        ('train', {'vocab_size': 262}, r'config.text.vocab_size=262 is too small'),
        (
            'train[200:]',
            {'max_length': 2},
            r'none of 70 sentence pairs .* at most 2 tokens .config.text.max_length.',
        ),
        ('train[:5000]', {}, 'reaches past the 270 examples'),
        ('train', {'languages': ('de', 'en')}, 'neither files such as train.de and train.en'),
    ],
)
def test_open_sentences_reports_mistakes(folder, split, text, message):
    with pytest.raises(UserError, match=message) as caught:
        opened(folder, split=split, **text)
    assert '\n' not in str(caught.value)
