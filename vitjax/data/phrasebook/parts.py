"""What all sentences are made of: choices, subjects and nouns, in both languages."""

import functools
import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from vitjax.data.phrasebook import words
from vitjax.data.phrasebook.english import article, be_clause, plural, to_be
from vitjax.data.phrasebook.korean import Manner, particle
from vitjax.data.phrasebook.words import Noun, Subject

T = TypeVar('T')
FORMS = ('statement', 'statement', 'negative', 'question')
ACTORS = (
    *(*words.PRONOUNS, words.PRONOUNS[0], *words.NAMED, *words.KIN, *words.FRIENDS),
    *(*words.ROLES, *words.STRANGERS),
)
ANYONE = (*ACTORS, *words.CHILDREN)


class Draw:
    """A stream of choices, the same for the same seed on any machine and Python."""

    def __init__(self, seed: str):
        self._random = random.Random(seed).random

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def chance(self, share: float) -> bool:
        return self._random() < share


class Sentence(NamedTuple):
    """Both languages, without capital and full stop, and the combinations of words in it."""

    korean: str
    english: str
    combinations: tuple[tuple[str, str], ...] = ()
    question: bool = False


def join(*parts: str) -> str:
    """The parts that are not empty, with a space between them."""
    return ' '.join(filter(None, parts))


def choose(draw: Draw, people: tuple[Subject, ...], form: str) -> Subject:
    """A subject; a question is not about me or us."""
    if form == 'question':
        return words.YOU if draw.chance(0.4) else draw.pick(_others(people))
    return draw.pick(people)


@functools.cache
def _others(people: tuple[Subject, ...]) -> tuple[Subject, ...]:
    return tuple(subject for subject in people if subject.korean not in ('저', '우리'))


def mark(subject: Subject, forms: str = '은/는') -> str:
    """A subject with its particle; '' for the 'you' that is left out."""
    if subject is words.YOU:
        return ''
    if forms == '이/가' and subject.korean in ('저', '누구'):
        return {'저': '제가', '누구': '누가'}[subject.korean]
    return particle(subject.korean, forms)


def name(subject: Subject, form: str) -> str:
    """The English of a subject in a 'statement', 'negative' or 'question'."""
    if subject.kin:
        return f'{"your" if form == "question" else "my"} {subject.english}'
    return subject.english


def bare(noun: Noun, *, described: str = '', general: bool = False) -> str:
    """A noun, with an adjective or not, that nothing points at: 'a book', in general 'books'; 'rice'."""
    if noun.kind != 'count':
        return join(described, noun.english)
    if general:
        return join(described, plural(noun.english))
    return article(join(described, noun.english))


def point(draw: Draw, noun: Noun) -> tuple[str, str]:
    """이 or 그 and the noun."""
    korean, one, many = draw.pick((('이', 'this', 'these'), ('그', 'that', 'those')))
    return f'{korean} {noun.korean}', f'{many if noun.kind == "plural" else one} {noun.english}'


def count(draw: Draw, noun: Noun) -> tuple[str, str]:
    """One to five of a noun, with its counter: 책 두 권, two books; 커피 한 잔, one cup of coffee."""
    korean, english = draw.pick(words.NUMBERS[:5])
    unit = noun.measure or noun.english
    counted = join(english, unit if english == 'one' else plural(unit))
    if noun.measure:
        counted = f'{counted} of {noun.english}'
    return f'{noun.korean} {korean} {noun.counter}', counted


def definite(draw: Draw, noun: Noun) -> tuple[str, str, str]:
    """Korean, English and number of a noun as a subject: the, this, that or somebody's."""
    number = 'many' if noun.kind == 'plural' else 'one'
    if noun.kind == 'fixed':
        return noun.korean, noun.english, number
    shape = draw.pick(('the', 'pointed', 'pointed', 'owned'))
    if shape == 'pointed':
        return *point(draw, noun), number
    if shape == 'owned' and noun.korean in words.CARRIED:
        owner, whose = draw.pick(words.OWNERS)
        return f'{owner} {noun.korean}', f'{whose} {noun.english}', number
    return noun.korean, f'the {noun.english}', number


def manner_of(draw: Draw, form: str, subject: Subject, *, short: bool = False) -> Manner:
    """Level of speech and, for some subjects, honorifics; who is asked may be honoured or not."""
    honorific = subject.honorific or (subject is words.YOU and draw.chance(0.4))
    return Manner(draw.chance(0.5), form, honorific, short)


def is_clause(subject: Subject, form: str, rest: str, tense: str) -> str:
    """The English of a subject with 'be' and the rest."""
    return be_clause(name(subject, form), to_be(subject.number, tense), form, rest)
