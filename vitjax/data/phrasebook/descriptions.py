"""Sentences about what somebody or something is and is like: every function draws one."""

from vitjax.data.phrasebook import verbs, words
from vitjax.data.phrasebook.english import article, be_clause, plural, to_be
from vitjax.data.phrasebook.korean import Manner, be, finish, honour, particle
from vitjax.data.phrasebook.parts import (
    ANYONE,
    FORMS,
    Draw,
    Sentence,
    bare,
    choose,
    definite,
    is_clause,
    join,
    manner_of,
    mark,
    name,
    point,
)

_PEOPLE = (*words.PRONOUNS, *words.NAMED, *words.KIN, *words.FRIENDS, *words.STRANGERS)
_AGED = tuple(subject for subject in (*_PEOPLE, *words.CHILDREN) if not subject.honorific)
_GROWN = ('남편', '아내', '그 남자', '그 여자')
_MATCHES = [
    (first, second, noun)
    for first in verbs.QUALITIES
    for second in verbs.QUALITIES
    for noun in first.nouns
    if first is not second
    and noun in second.nouns
    and {first.stem, second.stem} not in [set(pair) for pair in verbs.OPPOSITES]
]
_CONNECTED = (('지만', 'but'), ('고', 'and'))


def identity(draw: Draw) -> Sentence:
    """저는 학생입니다."""
    form = draw.pick(FORMS)
    subject = choose(draw, _PEOPLE, form)
    if draw.chance(0.3):
        noun, english = draw.pick(words.NATIONALITIES)
    else:
        noun, english = draw.pick(words.PROFESSIONS)
        english = plural(english) if subject.number == 'many' else article(english)
    tense = 'past' if draw.chance(0.3) else 'present'
    korean = f'{mark(subject)} {be(noun, manner_of(draw, form, subject), tense)}'.strip()
    combinations = ((subject.korean, noun),) if subject.korean else ()
    return Sentence(
        korean, is_clause(subject, form, english, tense), combinations, form == 'question'
    )


def thing(draw: Draw) -> Sentence:
    """이것은 제 가방입니다. 그것은 누구의 컴퓨터예요?"""
    form = draw.pick(FORMS)
    shown, one, many = draw.pick(
        (('이것', 'this', 'these'), ('그것', 'that', 'those'), ('저것', 'that', 'those'))
    )
    manner = Manner(draw.chance(0.5), form)
    if form == 'question' and draw.chance(0.02):
        return Sentence(f'{shown}은 {be("무엇", manner)}', f'what is {one}', (), True)
    noun = words.NOUNS[draw.pick((*words.CARRIED, *words.THINGS))]
    number, this = ('many', many) if noun.kind == 'plural' else ('one', one)
    korean, english, owner = noun.korean, bare(noun), '것'
    asks = form == 'question' and draw.chance(0.3)
    if asks and noun.korean in words.CARRIED:
        korean = f'누구의 {korean}'
        english = f'whose {noun.english} {to_be(number)} {this}'
        return Sentence(
            f'{shown}은 {be(korean, manner)}', english, (('누구의', noun.korean),), True
        )
    if noun.korean in words.CARRIED and draw.chance(0.7):
        owner, whose = draw.pick(words.OWNERS)
        korean, english = f'{owner} {korean}', f'{whose} {noun.english}'
    said = be_clause(this, to_be(number), form, english)
    combinations = ((owner, noun.korean),)
    return Sentence(f'{shown}은 {be(korean, manner)}', said, combinations, form == 'question')


def age(draw: Draw) -> Sentence:
    """제 여동생은 열두 살입니다."""
    form = draw.pick(FORMS)
    subject = choose(draw, _AGED, form)
    manner = Manner(draw.chance(0.5), form)
    if form == 'question' and draw.chance(0.3):
        english = f'how old {to_be(subject.number)} {name(subject, form)}'
        combinations = (('몇', subject.korean),) if subject.korean else ()
        return Sentence(join(mark(subject), be('몇 살', manner)), english, combinations, True)
    ages = words.AGES[8:] if subject.korean in _GROWN else words.AGES
    korean, english = draw.pick(ages)
    said = is_clause(subject, form, f'{english} years old', 'present')
    combinations = ((subject.korean, korean),) if subject.korean else ()
    return Sentence(
        join(mark(subject), be(f'{korean} 살', manner)), said, combinations, form == 'question'
    )


def quality(draw: Draw) -> Sentence:
    """이 책은 아주 재미있습니다."""
    adjective = draw.pick(verbs.QUALITIES)
    noun = words.NOUNS[draw.pick(adjective.nouns)]
    form = draw.pick(FORMS)
    korean, english, number = definite(draw, noun)
    tense = 'past' if draw.chance(0.3) else 'present'
    adverb, very = _degree(draw, form)
    manner = Manner(draw.chance(0.5), form, short=_short(draw, adjective.stem))
    marked = particle(korean, '이/가' if draw.chance(0.2) else '은/는')
    said = be_clause(english, to_be(number, tense), form, join(very, adjective.english))
    return Sentence(
        join(marked, adverb, finish(adjective.stem, manner, tense)),
        said,
        ((noun.korean, f'{adjective.stem}다'),),
        form == 'question',
    )


def comparison(draw: Draw) -> Sentence | None:
    """이 가방은 그 가방보다 더 비쌉니다."""
    adjective = draw.pick(verbs.QUALITIES)
    noun = words.NOUNS[draw.pick(adjective.nouns)]
    if noun.kind == 'fixed':
        return None
    form = draw.pick(('statement', 'question'))
    many = noun.kind == 'plural'
    these, those = ('these', 'those') if many else ('this', 'that')
    korean = f'이 {particle(noun.korean, "은/는")} 그 {noun.korean}보다 더'
    manner = Manner(draw.chance(0.5), form)
    compared = f'{adjective.comparative} than {those} {noun.english}'
    is_ = to_be('many' if many else 'one')
    return Sentence(
        f'{korean} {finish(adjective.stem, manner)}',
        be_clause(f'{these} {noun.english}', is_, form, compared),
        ((noun.korean, f'{adjective.stem}다'),),
        form == 'question',
    )


def contrast(draw: Draw) -> Sentence:
    """이 가방은 예쁘지만 비쌉니다."""
    first, second, word = draw.pick(_MATCHES)
    noun = words.NOUNS[word]
    korean, english, number = definite(draw, noun)
    ending, conjunction = draw.pick(_CONNECTED)
    end = finish(second.stem, Manner(draw.chance(0.5)))
    return Sentence(
        f'{particle(korean, "은/는")} {first.stem}{ending} {end}',
        f'{english} {to_be(number)} {first.english} {conjunction} {second.english}',
        ((word, f'{first.stem}다'), (word, f'{second.stem}다')),
    )


def state(draw: Draw) -> Sentence:
    """할머니는 건강하십니다. 어제 바빴어요?"""
    adjective = draw.pick(verbs.STATES)
    form = draw.pick(FORMS)
    subject = choose(draw, ANYONE, form)
    tense, time, day = draw.pick((('present', '', ''), ('past', '', '')))
    if adjective.stem in verbs.PASSING and draw.chance(0.5):
        tense, (time, day) = draw.pick(_DAYS)
    adverb, very = ('', '') if time else _degree(draw, form)
    manner = manner_of(draw, form, subject, short=_short(draw, adjective.stem))
    stem = adjective.stem
    if manner.honorific:
        stem, manner = honour(adjective), manner._replace(short=False)
    done = finish(stem, manner, tense, honorific=manner.honorific)
    combinations = ((subject.korean, f'{adjective.stem}다'),) if subject.korean else ()
    english = join(very, adjective.english, day)
    return Sentence(
        join(mark(subject), time, adverb, done),
        is_clause(subject, form, english, tense),
        combinations,
        form == 'question',
    )


def weather(draw: Draw) -> Sentence:
    """서울은 어제 날씨가 추웠습니다."""
    adjective = draw.pick(verbs.WEATHER)
    form = draw.pick(FORMS)
    tense, (time, day) = draw.pick(_DAYS)
    city = draw.pick((*words.CITIES, '', ''))
    where = words.CITIES[city] if city else ''
    manner = Manner(draw.chance(0.5), form, short=_short(draw, adjective.stem))
    return Sentence(
        join(
            city and particle(city, '은/는'), time, '날씨가', finish(adjective.stem, manner, tense)
        ),
        be_clause(
            join('the weather', where), to_be('one', tense), form, join(adjective.english, day)
        ),
        ((city, f'{adjective.stem}다'),) if city else (),
        form == 'question',
    )


def price(draw: Draw) -> Sentence:
    """이 가방은 얼마입니까?"""
    noun = words.NOUNS[draw.pick((*words.CARRIED, *words.THINGS))]
    korean, english = point(draw, noun)
    asked = be('얼마', Manner(draw.chance(0.5), 'question'))
    is_ = to_be('many' if noun.kind == 'plural' else 'one')
    return Sentence(
        f'{particle(korean, "은/는")} {asked}',
        f'how much {is_} {english}',
        (('얼마', noun.korean),),
        True,
    )


_DAYS = (
    ('present', ('오늘', 'today')),
    ('present', ('지금', 'now')),
    ('past', ('어제', 'yesterday')),
    ('future', ('내일', 'tomorrow')),
)


def _degree(draw: Draw, form: str) -> tuple[str, str]:
    if form == 'statement' and draw.chance(0.4):
        return draw.pick((('아주', 'very'), ('정말', 'really')))
    return '', ''


def _short(draw: Draw, stem: str) -> bool:
    """안 stands before an adjective of one or two syllables only, and not before 있다 or 하다."""
    return len(stem) < 3 and stem[-1] not in '있하' and draw.chance(0.5)
