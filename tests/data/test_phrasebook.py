import functools
import hashlib
import random
import subprocess
import sys

import pytest

from vitjax.data.phrasebook import SPLITS, pairs, pairs_by_split, sentences, split_of, words
from vitjax.data.phrasebook.english import article, be_clause, inflect, plural, to_be
from vitjax.data.phrasebook.korean import Manner, attach, be, finish, infinitive, particle, past
from vitjax.data.sources import open_source
from vitjax.errors import UserError

# Read and approved; each is in the book.
BY_HAND = {
    # 이다 and 아니다
    '저는 학생입니다.': 'I am a student.',
    '우리는 한국 사람입니다.': 'We are Korean.',
    '할머니는 의사세요?': 'Is your grandmother a doctor?',
    '어머니는 과학자이십니다.': 'My mother is a scientist.',
    '남동생은 간호사였습니다.': 'My younger brother was a nurse.',
    '그들은 교사가 아니었습니다.': 'They were not teachers.',
    '이것은 제 모자입니다.': 'This is my hat.',
    '저것은 누구의 컴퓨터예요?': 'Whose computer is that?',
    # irregular verbs and adjectives: ㅂ, ㄷ, 르, 으, ㄹ
    '형이 수진 씨를 돕지 않았습니다.': 'My older brother did not help Sujin.',
    '이웃을 도우실까요?': 'Shall we help a neighbor?',
    '교수님은 현우 씨를 초대하고 노래를 들으세요.': 'The professor invites Hyeonu and listens to a song.',
    '무엇을 길러요?': 'What do you raise?',
    '그는 그 종이를 잘라요.': 'He cuts that paper.',
    '민수 씨는 답을 몰라요.': 'Minsu does not know the answer.',
    '지영 씨는 아주 바빴어요.': 'Jiyeong was very busy.',
    '그녀는 대전에 삽니다.': 'She lives in Daejeon.',
    '창문을 여세요.': 'Please open the window.',
    '지금 노실까요?': 'Shall we play now?',
    '그 노래가 정말 아름다웠어요.': 'That song was really beautiful.',
    '이 말은 그 말보다 더 빨라요?': 'Is this horse faster than that horse?',
    # honorifics with words of their own
    '할아버지는 오늘 집에서 많이 주무셨어요.': 'My grandfather slept a lot at home today.',
    '어머니는 식당에서 주스를 드십니다.': 'My mother drinks juice at the restaurant.',
    '사장님은 사무실에 계셨어요.': 'The boss was in the office.',
    '할아버지는 오늘 편찮으세요.': 'My grandfather is sick today.',
    # endings
    '그 소설을 읽으십시다.': 'Let us read that novel.',
    '크게 노래하지 마십시오.': 'Please do not sing loudly.',
    '그는 책상을 고치고 셔츠를 입어요.': 'He fixes a desk and wears a shirt.',
    '그는 이 연필을 사용하러 사무실에 못 옵니다.': 'He cannot come to the office to use this pencil.',
    '사장님은 사무실에 걸어가고 싶어 하시지 않습니다.': 'The boss does not want to walk to the office.',
    '가위로 종이를 잘라야 해요?': 'Do you have to cut paper with scissors?',
    '선생님은 뛰고 계시지 않습니다.': 'The teacher is not running.',
    '아버지가 세 시에 공항에 걸어가실 겁니까?': 'Will your father walk to the airport at three '
    "o'clock?",
    # counters, plurals, 'or'
    '여동생은 집에서 영화 두 편을 볼 수 있습니다.': 'My younger sister can watch two movies at home.',
    '누가 주스 세 잔을 마셨어요?': 'Who drank three glasses of juice?',
    '이 가위는 얼마예요?': 'How much are these scissors?',
    '내일 고기와 커피를 주문하지 마세요.': 'Please do not order meat or coffee tomorrow.',
    '창문 앞에 개 세 마리가 있었습니다.': 'There were three dogs in front of the window.',
    '저는 키가 크지 않아요.': 'I am not tall.',
}


@pytest.mark.parametrize(('korean', 'english'), BY_HAND.items())
def test_by_hand(korean, english):
    assert book()[korean].english == english


@functools.cache
def book():
    return {pair.korean: pair for pair in pairs()}


def test_pairs_of_each_split_are_unchanged():
    """Scores of trained models compare only as long as every pair stays the same, in the same order."""
    digest = hashlib.sha256()
    for split, part in pairs_by_split().items():
        for pair in part:
            digest.update(f'{split}\t{pair.korean}\t{pair.english}\n'.encode())
    counts = {split: len(part) for split, part in pairs_by_split().items()}
    assert counts == {'train': 51_711, 'valid': 2_087, 'test': 2_864}
    assert digest.hexdigest() == 'bdfb21790b1c3de099bb0aa45540239b860993bb7cadd8ce543b1ddc1eeb2224'


def test_size_and_uniqueness():
    assert len(pairs()) == len(book()) >= 20_000
    assert len({(pair.korean, pair.english) for pair in pairs()}) == len(pairs())


def test_every_draw_of_a_korean_sentence_has_the_same_english():
    english = {}
    for pair in sentences():
        assert english.setdefault(pair.korean, pair.english) == pair.english


def test_same_book_in_another_process():
    code = (
        'import hashlib; from vitjax.data.phrasebook import pairs; '
        'print(hashlib.sha256(repr(pairs()).encode()).hexdigest())'
    )
    other = subprocess.check_output([sys.executable, '-c', code], text=True).strip()
    assert other == hashlib.sha256(repr(pairs()).encode()).hexdigest()


def test_held_out_combinations_of_known_words():
    parts = pairs_by_split()
    assert all(len(parts[split]) > 1000 for split in SPLITS)
    assert sum(map(len, parts.values())) == len(pairs())
    trained = {combination for pair in parts['train'] for combination in pair.combinations}
    known = {word for combination in trained for word in combination}
    for split in ('valid', 'test'):
        for pair in parts[split]:
            assert split_of(pair) == split
            assert not trained.issuperset(pair.combinations)
            assert known.issuperset(word for words in pair.combinations for word in words)


def test_the_example_is_trained():
    train = {pair.korean for pair in pairs_by_split()['train']}
    assert '저는 학생입니다.' in train
    for word in ('저는', '학생입니다.'):
        assert sum(word in sentence.split() for sentence in train) >= 5


def test_sentences_are_well_formed():
    for pair in pairs():
        for text in (pair.korean, pair.english):
            assert text == ' '.join(text.split())
            assert text[-1] in '.?'
            assert len(text.split()) <= 12
        assert pair.korean[-1] == pair.english[-1] or pair.korean.endswith('까요?')
        assert pair.english[0].isupper()
        assert pair.english.isascii()
        assert all('가' <= letter <= '힣' for letter in pair.korean[:-1].replace(' ', ''))


def test_no_word_of_the_book_has_the_wrong_particle():
    used = {word for pair in pairs() for word in pair.korean.rstrip('.?').split()}
    nouns = [
        *words.NOUNS,
        *(s.korean.split()[-1] for s in (*words.KIN, *words.ROLES, *words.NAMED)),
    ]
    for noun in nouns:
        closed = (ord(noun[-1]) - ord('가')) % 28 > 0
        for right, wrong in (('은', '는'), ('을', '를'), ('과', '와')):
            assert noun + (wrong if closed else right) not in used


@pytest.mark.parametrize(
    ('word', 'forms', 'expected'),
    [
        ('책', '은/는', '책은'),
        ('나무', '은/는', '나무는'),
        ('물', '이/가', '물이'),
        ('연필', '으로/로', '연필로'),
        ('볼펜', '으로/로', '볼펜으로'),
        ('버스', '으로/로', '버스로'),
        ('친구', '과/와', '친구와'),
        ('선생님', '과/와', '선생님과'),
    ],
)
def test_particles(word, forms, expected):
    assert particle(word, forms) == expected


@pytest.mark.parametrize(
    ('stem', 'polite', 'formal', 'ended', 'future', 'noun'),
    [
        ('먹', '먹어요', '먹습니다', '먹었', '먹을', '먹은'),
        ('가', '가요', '갑니다', '갔', '갈', '간'),
        ('마시', '마셔요', '마십니다', '마셨', '마실', '마신'),
        ('배우', '배워요', '배웁니다', '배웠', '배울', '배운'),
        ('하', '해요', '합니다', '했', '할', '한'),
        ('돕', '도와요', '돕습니다', '도왔', '도울', '도운'),
        ('춥', '추워요', '춥습니다', '추웠', '추울', '추운'),
        ('입', '입어요', '입습니다', '입었', '입을', '입은'),
        ('듣', '들어요', '듣습니다', '들었', '들을', '들은'),
        ('받', '받아요', '받습니다', '받았', '받을', '받은'),
        ('고르', '골라요', '고릅니다', '골랐', '고를', '고른'),
        ('기르', '길러요', '기릅니다', '길렀', '기를', '기른'),
        ('쓰', '써요', '씁니다', '썼', '쓸', '쓴'),
        ('바쁘', '바빠요', '바쁩니다', '바빴', '바쁠', '바쁜'),
        ('예쁘', '예뻐요', '예쁩니다', '예뻤', '예쁠', '예쁜'),
        ('살', '살아요', '삽니다', '살았', '살', '산'),
        ('길', '길어요', '깁니다', '길었', '길', '긴'),
        ('쉬', '쉬어요', '쉽니다', '쉬었', '쉴', '쉰'),
        ('보내', '보내요', '보냅니다', '보냈', '보낼', '보낸'),
    ],
)
def test_verbs(stem, polite, formal, ended, future, noun):
    assert infinitive(stem) + '요' == polite == finish(stem, Manner(formal=False))
    assert finish(stem, Manner(formal=True)) == formal
    assert past(stem) == ended
    assert attach(stem, '을') == future
    assert attach(stem, '은') == noun


@pytest.mark.parametrize(
    ('manner', 'tense', 'teacher', 'student'),
    [
        (Manner(True), 'present', '의사입니다', '학생입니다'),
        (Manner(False), 'present', '의사예요', '학생이에요'),
        (Manner(False), 'past', '의사였어요', '학생이었어요'),
        (Manner(True, 'question'), 'past', '의사였습니까', '학생이었습니까'),
        (Manner(False, 'negative'), 'present', '의사가 아니에요', '학생이 아니에요'),
        (Manner(True, 'negative'), 'past', '의사가 아니었습니다', '학생이 아니었습니다'),
        (Manner(False, honorific=True), 'present', '의사세요', '학생이세요'),
        (Manner(True, honorific=True), 'present', '의사이십니다', '학생이십니다'),
        (Manner(False, 'negative', True), 'present', '의사가 아니세요', '학생이 아니세요'),
    ],
)
def test_copula(manner, tense, teacher, student):
    assert (be('의사', manner, tense), be('학생', manner, tense)) == (teacher, student)


@pytest.mark.parametrize(
    ('form', 'phrases'),
    [
        ('s', ['reads a book', 'goes home', 'studies', 'fixes a car', 'watches', 'plays', 'has']),
        (
            'past',
            ['read a book', 'went home', 'studied', 'fixed a car', 'watched', 'played', 'had'],
        ),
        (
            'ing',
            *[['reading a book', 'going home', 'studying', 'fixing a car', 'watching', 'playing']],
        ),
    ],
)
def test_english_verbs(form, phrases):
    base = ['read a book', 'go home', 'study', 'fix a car', 'watch', 'play', 'have']
    assert [inflect(phrase, form) for phrase in base[: len(phrases)]] == phrases


def test_english_nouns_and_be():
    nouns = ('book', 'cell phone', 'dictionary', 'box', 'bus', 'watch', 'child', 'key')
    assert [*map(plural, nouns)] == [
        *('books', 'cell phones', 'dictionaries', 'boxes', 'buses', 'watches', 'children', 'keys')
    ]
    assert [article('book'), article('old book')] == ['a book', 'an old book']
    assert be_clause('it', to_be('one', 'future'), 'question', 'cold') == 'will it be cold'
    assert be_clause('it', to_be('one', 'future'), 'negative', 'cold') == 'it will not be cold'


@pytest.mark.parametrize('languages', [('ko', 'en'), ('en', 'ko')])
def test_as_a_source(languages):
    for split in SPLITS:
        source = open_source('phrasebook', split, languages=languages)
        parts = pairs_by_split()[split]
        assert len(source) == len(parts)
        index = random.Random(0).randrange(len(parts))
        sides = dict(zip(('ko', 'en'), parts[index][:2], strict=True))
        assert source[index] == {
            'source': sides[languages[0]],
            'target': sides[languages[1]],
        }


@pytest.mark.parametrize(
    ('languages', 'path', 'message'),
    [
        (('ko', 'de'), None, "is in 'ko' and 'en', not in"),
        (('ko', 'ko'), None, "is in 'ko' and 'en', not in"),
        (('ko', 'en'), '/data', "generated and has no path, got '/data'"),
    ],
)
def test_what_is_wrong_is_said(languages, path, message):
    with pytest.raises(UserError, match=message):
        open_source('phrasebook', 'train', path, languages)
