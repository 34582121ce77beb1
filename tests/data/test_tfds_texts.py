import sys

import pytest
import tensorflow_datasets as tfds

from vitjax.data.sources import open_source
from vitjax.errors import UserError

TALKS = [
    {'ko': '안녕', 'en': ['hi', 'hello'], 'de': 'hallo'},
    {'en': 'alone'},
    {'de': 'ja', 'ko': '네', 'en': 'yes'},
]
VARIABLE = tfds.features.TranslationVariableLanguages()


class _Texts(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=self.FEATURES)

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples(), 'test': self._generate_examples()}

    def _generate_examples(self):
        yield from enumerate(self.EXAMPLES)


class VitjaxTestTalks(_Texts):
    """As ted_multi_translate."""

    FEATURES = tfds.features.FeaturesDict(
        {'translations': VARIABLE, 'talk_name': tfds.features.Text()}
    )
    EXAMPLES = tuple({'translations': talk, 'talk_name': 'a talk'} for talk in TALKS)


class VitjaxTestPairs(_Texts):
    """As opus."""

    FEATURES = tfds.features.Translation(languages=['ko', 'en'])
    EXAMPLES = ({'ko': '안녕', 'en': 'hello'}, {'ko': '네', 'en': 'yes'})


class VitjaxTestWords(_Texts):
    """Without translations."""

    FEATURES = tfds.features.FeaturesDict({'word': tfds.features.Text()})
    EXAMPLES = ({'word': 'yes'},)


class VitjaxTestOffline(VitjaxTestPairs):
    """Must be downloaded first."""

    def _split_generators(self, dl_manager):
        dl_manager.download('http://nowhere.invalid/corpus.zip')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp('tfds'))


def texts(name, languages, folder, split='train'):
    source = open_source(f'tfds:{name}', split, folder, languages)
    return sorted(tuple(source[index].values()) for index in range(len(source)))


@pytest.mark.parametrize(
    ('name', 'languages', 'expected'),
    [
        ('vitjax_test_pairs', ('ko', 'en'), [('네', 'yes'), ('안녕', 'hello')]),
        ('vitjax_test_pairs', ('en', 'ko'), [('hello', '안녕'), ('yes', '네')]),
        # tfds sorts several translations; an example without one of the languages is left out.
        ('vitjax_test_talks', ('ko', 'en'), [('네', 'yes'), ('안녕', 'hello')]),
        ('vitjax_test_talks', ('de', 'ko'), [('hallo', '안녕'), ('ja', '네')]),
    ],
)
def test_text_splits_read_pairs(folder, name, languages, expected):
    assert texts(name, languages, folder) == texts(name, languages, folder, 'test') == expected
    assert len(texts(name, languages, folder, 'train[:1]')) == 1
    assert 'tensorflow' not in sys.modules


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (
            'vitjax_test_pairs',
            'no sentence in both fr and en .config.text.languages.; it has en, ko',
        ),
        ('vitjax_test_talks', 'no sentence in both fr and en .*; it has de, en, ko'),
        ('vitjax_test_words', 'tfds:vitjax_test_words has no translations'),
        ('ted_multi_translat', "unknown tfds data set .*; did you mean 'ted_multi_translate'"),
        (
            'vitjax_test_offline',
            'not prepared in .* and cannot be downloaded here; where there is a network, run python',
        ),
    ],
)
def test_text_splits_report_missing_translations(folder, name, message):
    with pytest.raises(UserError, match=message) as caught:
        texts(name, ('fr', 'en'), folder)
    assert '\n' not in str(caught.value)
