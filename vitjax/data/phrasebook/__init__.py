"""A Korean-English phrasebook, generated: a toy language with real grammar.

A few hundred words (`words`, `verbs`), their inflection (`korean`, `english`) and the sentences made of
them (`actions`, `descriptions`, `places`). Every Korean sentence has one English sentence, so that an
exact match is a fair measure; `parts` and the rules below decide what Korean leaves open:

- a question without a subject asks 'you'; kin and friends as subjects are 'my', in a question 'your';
- a noun is 'the' as a subject and 'a' as an object or predicate, but a plural after 'like', 'dislike'
  and 'love'; what the word list calls fixed ('the piano', 'breakfast') never changes;
- a predicate noun agrees with its subject: 우리는 학생입니다, 'we are students';
- two objects joined by 와 or 과 are joined by 'and', in a negative sentence by 'or';
- the plain present is the simple present, -고 있다 the progressive; -(으)ㄹ 것이다 and -겠다 are 'will';
- levels of speech, honorifics and the choice of 은/는 or 이/가 make no difference in English.

Held out are combinations of words, not sentences at random: 'valid' and 'test' hold pairs, such as
(책, 읽다) or (저, 학생), that no sentence of 'train' holds, while each of their words is in 'train'.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from vitjax.data.pairs import Pairs
from vitjax.data.phrasebook import actions, descriptions, places
from vitjax.data.phrasebook.parts import Draw, Sentence
from vitjax.errors import UserError

SPLITS = ('train', 'valid', 'test')
_LONGEST = 12  # words of either language
_HELD_OUT = 0.04  # of the combinations, for each of 'valid' and 'test'
_DRAWS: dict[Callable[[Draw], Sentence | None], int] = {
    actions.transitive: 19000,
    actions.intransitive: 5000,
    actions.motion: 6000,
    actions.purpose: 2500,
    actions.living: 1500,
    actions.succession: 2000,
    actions.asking: 2500,
    descriptions.identity: 4500,
    descriptions.thing: 2000,
    descriptions.age: 1200,
    descriptions.quality: 4000,
    descriptions.comparison: 1200,
    descriptions.contrast: 1200,
    descriptions.state: 2500,
    descriptions.weather: 1200,
    places.existence: 2500,
    places.location: 2500,
    places.whereabouts: 2500,
    places.possession: 2500,
    descriptions.price: 400,
}


class Pair(NamedTuple):
    """A sentence in both languages.

    Attributes:
      construction: what kind of sentence it is: 'transitive', 'identity' ...
      combinations: pairs of its words that are held out together or not at all, such as object and
        verb, subject and predicate, noun and adjective.
    """

    korean: str
    english: str
    construction: str
    combinations: tuple[tuple[str, str], ...]


def sentences() -> Iterator[Pair]:
    """All sentences as drawn, which repeats some."""
    for construction, count in _DRAWS.items():
        draw = Draw(construction.__name__)
        for _ in range(count):
            sentence = construction(draw)
            if sentence is not None:
                pair = _finished(sentence, construction.__name__)
                if max(len(pair.korean.split()), len(pair.english.split())) <= _LONGEST:
                    yield pair


@functools.cache
def pairs() -> tuple[Pair, ...]:
    """The whole book, each Korean sentence once, in an order of no meaning: any stretch is a fair sample."""
    book = {pair.korean: pair for pair in sentences()}
    return tuple(sorted(book.values(), key=lambda pair: _hash(pair.korean)))


def splits(path: str | None, languages: tuple[str, str]) -> Mapping[str, Callable[[], Pairs]]:
    """'train', 'valid' and 'test' as sources; UserError for a path or other languages."""
    if path is not None:
        raise UserError(f"data set 'phrasebook' is generated and has no path, got {path!r}")
    if sorted(languages) != ['en', 'ko']:
        raise UserError(f"data set 'phrasebook' is in 'ko' and 'en', not in {languages}")
    return {split: functools.partial(_open, split, languages[0]) for split in SPLITS}


def _open(split: str, source: str) -> Pairs:
    pairs = pairs_by_split()[split]
    korean, english = [pair.korean for pair in pairs], [pair.english for pair in pairs]
    sides = (korean, english) if source == 'ko' else (english, korean)
    return Pairs(f'phrasebook {split}', *sides)


@functools.cache
def pairs_by_split() -> dict[str, tuple[Pair, ...]]:
    """'train', 'valid' and 'test' by held-out combinations, in the order of `pairs`."""
    parts = {split: [] for split in SPLITS}
    for pair in pairs():
        parts[split_of(pair)].append(pair)
    return {split: tuple(part) for split, part in parts.items()}


def split_of(pair: Pair) -> str:
    """'test' if a combination of the pair is held out for it, else 'valid' likewise, else 'train'."""
    held = {_held_out(combination) for combination in pair.combinations}
    return 'test' if 'test' in held else 'valid' if 'valid' in held else 'train'


@functools.cache
def _held_out(combination: tuple[str, str]) -> str:
    place = _hash(' '.join(combination)) / 2**64
    return 'test' if place < _HELD_OUT else 'valid' if place < 2 * _HELD_OUT else 'train'


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), 'big')


def _finished(sentence: Sentence, construction: str) -> Pair:
    stop = '?' if sentence.question else '.'
    english = sentence.english[0].upper() + sentence.english[1:] + stop
    return Pair(sentence.korean + stop, english, construction, sentence.combinations)
