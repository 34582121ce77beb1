"""Sentences about what somebody or something is, has, or where it is: every function draws one."""

from vitjax.data.phrasebook import verbs, words
from vitjax.data.phrasebook.english import article, clause, plural, to_be
from vitjax.data.phrasebook.korean import Manner, be, finish, honour, particle
from vitjax.data.phrasebook.parts import (
    ACTORS,
    ANYONE,
    FORMS,
    Draw,
    Sentence,
    bare,
    choose,
    count,
    definite,
    join,
    mark,
    name,
    point,
)

_PEOPLE = (*words.PRONOUNS, *words.NAMED, *words.KIN, *words.FRIENDS, *words.STRANGERS)
_INDOORS = tuple(place for place in words.PLACES if place != '바다')
_AGED = tuple(subject for subject in (*_PEOPLE, *words.CHILDREN) if not subject.honorific)
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
    korean = f'{mark(subject)} {be(noun, _manner(draw, form, subject), tense)}'.strip()
    combinations = ((subject.korean, noun),) if subject.korean else ()
    return Sentence(korean, _is(subject, form, english, tense), combinations, form == 'question')


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
    said = _order(this, to_be(number), form, english)
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
    korean, english = draw.pick(words.AGES)
    said = _is(subject, form, f'{english} years old', 'present')
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
    said = _order(english, to_be(number, tense), form, join(very, adjective.english))
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
        _order(f'{these} {noun.english}', is_, form, compared),
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
    manner = _manner(draw, form, subject, short=_short(draw, adjective.stem))
    stem = adjective.stem
    if manner.honorific:
        stem, manner = honour(adjective), manner._replace(short=False)
    done = finish(stem, manner, tense, honorific=manner.honorific)
    combinations = ((subject.korean, f'{adjective.stem}다'),) if subject.korean else ()
    english = join(very, adjective.english, day)
    return Sentence(
        join(mark(subject), time, adverb, done),
        _is(subject, form, english, tense),
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
        _order(join('the weather', where), to_be('one', tense), form, join(adjective.english, day)),
        ((city, f'{adjective.stem}다'),) if city else (),
        form == 'question',
    )


def existence(draw: Draw) -> Sentence:
    """책상 위에 책 두 권이 있습니다."""
    noun, where, place, combination = _somewhere(draw)
    form = draw.pick(FORMS)
    tense = 'past' if draw.chance(0.3) else 'present'
    korean, english = noun.korean, noun.english if form == 'negative' else bare(noun)
    number = 'many' if noun.kind == 'plural' else 'one'
    if noun.counter and form == 'statement' and draw.chance(0.4):
        korean, english = count(draw, noun)
        number = 'one' if english.startswith('one ') else 'many'
    manner = Manner(draw.chance(0.5), 'question' if form == 'question' else 'statement')
    exists = finish('없' if form == 'negative' else '있', manner, tense)
    is_ = to_be(number, tense)
    english = f'no {english}' if form == 'negative' else english
    begin = f'{is_} there' if form == 'question' else f'there {is_}'
    return Sentence(
        f'{where}에 {particle(korean, "이/가")} {exists}',
        f'{begin} {english} {place}',
        (combination,),
        form == 'question',
    )


def location(draw: Draw) -> Sentence:
    """제 열쇠는 책상 위에 있습니다."""
    noun, where, place, combination = _somewhere(draw)
    form = draw.pick(FORMS)
    tense = 'past' if draw.chance(0.3) else 'present'
    korean, english, number = definite(draw, noun)
    manner = Manner(draw.chance(0.5), 'question' if form == 'question' else 'statement')
    exists = finish('없' if form == 'negative' else '있', manner, tense)
    is_ = to_be(number, tense)
    korean = particle(korean, '은/는')
    if form == 'question' and draw.chance(0.3):
        asked = (('어디', noun.korean),)
        return Sentence(f'{korean} 어디에 {exists}', f'where {is_} {english}', asked, True)
    return Sentence(
        f'{korean} {where}에 {exists}',
        _order(english, is_, form, place),
        (combination,),
        form == 'question',
    )


def whereabouts(draw: Draw) -> Sentence:
    """선생님은 도서관에 계십니다."""
    form = draw.pick(FORMS)
    subject = choose(draw, ANYONE, form)
    place = draw.pick(_INDOORS)
    tense = 'past' if draw.chance(0.3) else 'present'
    manner = _manner(draw, form, subject, short=draw.chance(0.5))
    if manner.honorific:
        exists = finish('계시', manner, tense, honorific=True)
    else:
        affirmed = manner._replace(form='question' if form == 'question' else 'statement')
        exists = finish('없' if form == 'negative' else '있', affirmed, tense)
    if form == 'question' and draw.chance(0.3):
        english = f'where {to_be(subject.number, tense)} {name(subject, form)}'
        asked = (('어디', subject.korean),) if subject.korean else ()
        return Sentence(join(mark(subject), '어디에', exists), english, asked, True)
    return Sentence(
        join(mark(subject), f'{place}에', exists),
        _is(subject, form, words.PLACES[place], tense),
        ((subject.korean, f'{place}에 있다'),) if subject.korean else (),
        form == 'question',
    )


def possession(draw: Draw) -> Sentence:
    """저는 시간이 없습니다."""
    form = draw.pick(FORMS)
    subject = choose(draw, ACTORS, form)
    noun = words.NOUNS[draw.pick(words.BELONGINGS)]
    tense = 'past' if draw.chance(0.25) else 'present'
    korean, english = noun.korean, bare(noun)
    if noun.counter and form == 'statement' and draw.chance(0.3):
        korean, english = count(draw, noun)
    manner = _manner(draw, form, subject)
    affirmed = manner._replace(form='question' if form == 'question' else 'statement')
    stem = '없' if form == 'negative' else '있'
    stem = f'{stem}으시' if manner.honorific else stem
    exists = finish(stem, affirmed, tense, honorific=manner.honorific)
    phrases = (f'have {english}',)
    return Sentence(
        join(mark(subject), particle(korean, '이/가'), exists),
        clause(name(subject, form), subject.number, tense, form, phrases),
        ((subject.korean, f'{noun.korean} 있다'),) if subject.korean else (),
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


def _manner(draw: Draw, form: str, subject: words.Subject, *, short: bool = False) -> Manner:
    honorific = subject.honorific or (subject is words.YOU and draw.chance(0.4))
    return Manner(draw.chance(0.5), form, honorific, short)


def _order(subject: str, is_: str, form: str, rest: str) -> str:
    """Subject, form of 'be' and the rest, as a statement, negative or question."""
    if form == 'question':
        *will, is_ = is_.split()[::-1]
        return join(is_, subject, *will, rest)
    first, *then = is_.split()
    return join(subject, first, 'not' if form == 'negative' else '', *then, rest)


def _is(subject: words.Subject, form: str, rest: str, tense: str) -> str:
    return _order(name(subject, form), to_be(subject.number, tense), form, rest)


def _degree(draw: Draw, form: str) -> tuple[str, str]:
    if form == 'statement' and draw.chance(0.4):
        return draw.pick((('아주', 'very'), ('정말', 'really')))
    return '', ''


def _short(draw: Draw, stem: str) -> bool:
    """안 stands before an adjective of one or two syllables only, and not before 있다 or 하다."""
    return len(stem) < 3 and stem[-1] not in '있하' and draw.chance(0.5)


def _somewhere(draw: Draw) -> tuple[words.Noun, str, str, tuple[str, str]]:
    """A thing, where it is in Korean and English, and what is combined."""
    if draw.chance(0.2):
        room, english = draw.pick(words.ROOMS)
        thing = draw.pick(words.FURNITURE)
        return words.NOUNS[thing], room, english, (thing, room)
    landmarks, relations, things = draw.pick(words.LANDMARKS)
    (landmark, the), (side, beside) = draw.pick(landmarks), draw.pick(relations)
    word = draw.pick([word for word in things if word != landmark])
    return words.NOUNS[word], f'{landmark} {side}', f'{beside} {the}', (word, landmark)
