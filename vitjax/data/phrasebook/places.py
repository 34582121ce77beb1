"""Sentences about what there is, where somebody or something is, and what somebody has."""

from vitjax.data.phrasebook import words
from vitjax.data.phrasebook.english import be_clause, clause, to_be
from vitjax.data.phrasebook.korean import Manner, finish, particle
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
    is_clause,
    join,
    manner_of,
    mark,
    name,
)

_INDOORS = tuple(place for place in words.PLACES if place != '바다')


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
        be_clause(english, is_, form, place),
        (combination,),
        form == 'question',
    )


def whereabouts(draw: Draw) -> Sentence:
    """선생님은 도서관에 계십니다."""
    form = draw.pick(FORMS)
    subject = choose(draw, ANYONE, form)
    place = draw.pick(_INDOORS)
    tense = 'past' if draw.chance(0.3) else 'present'
    manner = manner_of(draw, form, subject, short=draw.chance(0.5))
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
        is_clause(subject, form, words.PLACES[place], tense),
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
    manner = manner_of(draw, form, subject)
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
