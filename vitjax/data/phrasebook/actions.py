"""Sentences about what somebody does: every function draws one, or None where its parts do not fit."""

from typing import NamedTuple

from vitjax.data.phrasebook import verbs, words
from vitjax.data.phrasebook.acts import DEEDS, ERRANDS, OBJECTS, Act, with_object
from vitjax.data.phrasebook.english import clause
from vitjax.data.phrasebook.korean import Manner, attach, particle, predicate
from vitjax.data.phrasebook.parts import (
    ACTORS,
    ANYONE,
    FORMS,
    Draw,
    Sentence,
    bare,
    choose,
    join,
    mark,
    name,
)

_TENSES = ('present', 'past', 'future', 'intend')
_ASKED = (*_TENSES[:3], 'progressive', 'can', 'want', 'must')
_WITHOUT_SUBJECT = {
    'command': 'please',
    'forbid': 'please do not',
    'propose': 'let us',
    'shall': 'shall we',
}
_FORMS = {
    'intend': ('statement', 'negative'),
    'must': ('statement', 'question'),
    **{mood: ('statement',) for mood in _WITHOUT_SUBJECT},
}
_COMPANY = (
    *((subject.korean, subject.english) for subject in words.NAMED),
    *(('친구', 'a friend'), ('친구들', 'friends'), ('선생님', 'the teacher')),
    *(('그', 'him'), ('그녀', 'her'), ('그들', 'them')),
)
_ANSWERABLE = [
    verb for verb in verbs.TRANSITIVE if verb.stem not in ('알', '사랑하', *verbs.AMBIGUOUS)
]


class _Setting(NamedTuple):
    """When, where, with whom and by what something is done, in Korean and English."""

    time: tuple[str, str] = ('', '')
    place: tuple[str, str] = ('', '')
    company: tuple[str, str] = ('', '')
    tool: tuple[str, str] = ('', '')
    asks: str = ''


def transitive(draw: Draw) -> Sentence | None:
    """저는 어제 책을 읽었습니다."""
    return _say(draw, with_object(draw, *draw.pick(OBJECTS)))


def intransitive(draw: Draw) -> Sentence | None:
    """아이들은 공원에서 놀고 있어요."""
    verb = draw.pick(verbs.INTRANSITIVE)
    adverb = draw.pick(verb.partners) if draw.chance(0.4) else ''
    english = join(verb.english, verbs.ADVERBS.get(adverb, ''))
    return _say(draw, Act(verb, adverb, (english,)), ANYONE, pair_subject=True)


def motion(draw: Draw) -> Sentence | None:
    """친구는 버스로 학교에 갑니다."""
    verb = draw.pick(verbs.MOTION)
    place, tools = draw.pick(tuple(words.PLACES)), tuple(words.VEHICLES)
    if verb.stem in ('걸어가', '뛰어가'):
        tools = ()
    elif draw.chance(0.3):
        place, tools = draw.pick(tuple(words.CITIES)), (('비행기', 'by plane'),)
    english = f'{verb.english} {_to(place)}'
    act = Act(verb, f'{place}에', (english,), ((place, f'{verb.stem}다'),), tools=tools)
    return _say(draw, act)


def purpose(draw: Draw) -> Sentence | None:
    """저는 책을 읽으러 도서관에 갔어요."""
    errand = with_object(draw, *draw.pick(ERRANDS))
    place, verb = draw.pick(errand.verb.places), draw.pick(verbs.MOTION[:2])
    korean = f'{errand.korean} {attach(errand.verb.stem, "으러")} {place}에'
    english = f'{verb.english} {_to(place)} to {errand.english[0]}'
    combinations = (*errand.combinations, (place, f'{verb.stem}다'))
    return _say(draw, Act(verb, korean, (english,), combinations, errand.persons))


def living(draw: Draw) -> Sentence | None:
    """그녀는 서울에 살고 있습니다."""
    city = draw.pick(tuple(words.CITIES))
    english = f'live {words.CITIES[city]}'
    return _say(draw, Act(verbs.LIVE, f'{city}에', (english,), ((city, '살다'),)))


def succession(draw: Draw) -> Sentence | None:
    """그는 빵을 먹고 우유를 마셨습니다."""
    (first, thing), (then, other) = draw.pick(DEEDS), draw.pick(DEEDS)
    if first.stem == then.stem or thing.korean == other.korean:
        return None
    english = (f'{first.english} {bare(thing)}', f'{then.english} {bare(other)}')
    combinations = ((thing.korean, f'{first.stem}다'), (other.korean, f'{then.stem}다'))
    persons, before = (thing.korean, other.korean), (particle(thing.korean, '을/를'), first)
    korean = particle(other.korean, '을/를')
    act = Act(then, korean, english, combinations, persons, before=before)
    return _say(draw, act, moods=_TENSES)


def asking(draw: Draw) -> Sentence | None:
    """무엇을 샀어요? 누구를 만났어요? 어디에 갑니까?"""
    if draw.chance(0.2):
        verb, korean, asks = draw.pick((verbs.MOTION[0], verbs.LIVE)), '어디에', 'where'
    else:
        verb = draw.pick(_ANSWERABLE)
        korean, asks = ('누구를', 'who') if '친구' in verb.partners else ('무엇을', 'what')
    act = Act(verb, korean, (verb.english,), ((korean, f'{verb.stem}다'),), asks=asks)
    return _say(draw, act, moods=tuple(mood for mood in verb.moods if mood in _ASKED))


def _say(
    draw: Draw,
    act: Act,
    people: tuple[words.Subject, ...] = ACTORS,
    *,
    moods: tuple[str, ...] = (),
    pair_subject: bool = False,
) -> Sentence | None:
    """Draws mood, form, subject and setting of an act; with `pair_subject`, subject and verb combine."""
    verb, combinations = act.verb, act.combinations
    mood = draw.pick(moods or verb.moods)
    form = 'question' if act.asks else draw.pick(_FORMS.get(mood, FORMS))
    if form == 'negative' and act.before:
        form = 'statement'
    subject = _subject(draw, act, people, mood, form)
    setting = _setting(draw, act, subject, mood, form)
    persons = [*act.persons, setting.company[0], subject.korean]
    together = setting.company[0] or subject.number == 'many' or mood in ('propose', 'shall')
    if _repeats(persons) or (act.korean == '혼자' and together):
        return None
    honorific = subject.honorific or (subject is words.YOU and draw.chance(0.4))
    if honorific and act.korean == '무엇을' and verb.honorific:
        return None  # 무엇을 드세요? is what do you eat and what do you drink
    formal = mood == 'intend' or draw.chance(0.5)
    short = form == 'negative' and _may_be_short(act, mood) and draw.chance(0.5)
    manner = Manner(formal, form, honorific, short)
    active = (
        mood in ('past', 'progressive', 'future', 'intend') and verb.stem not in verbs.PREFERENCES
    )
    forms = '이/가' if subject is words.WHO or (active and draw.chance(0.3)) else '은/는'
    if pair_subject and subject in ANYONE:
        combinations = (*combinations, (subject.korean, f'{verb.stem}다'))
    return Sentence(
        _korean(act, mood, manner, setting, mark(subject, forms), subject),
        _english(act, mood, form, setting, subject),
        combinations,
        form == 'question' or mood == 'shall',
    )


def _subject(
    draw: Draw, act: Act, people: tuple[words.Subject, ...], mood: str, form: str
) -> words.Subject:
    if mood in _WITHOUT_SUBJECT:
        return words.YOU
    if mood == 'intend':
        return draw.pick(words.PRONOUNS[:2])
    if form == 'question' and not act.asks and mood != 'want' and draw.chance(0.1):
        return words.WHO
    return choose(draw, people, form)


def _setting(draw: Draw, act: Act, subject: words.Subject, mood: str, form: str) -> _Setting:
    """One or two circumstances, or none; a question may ask for one of them."""
    verb = act.verb
    if mood not in words.TIMES or verb.stem in (*verbs.PREFERENCES, '알', '살'):
        return _Setting(asks=act.asks)
    menu = ['', '', 'time', 'time', *act.tools[:2]]
    if verb.places and act.asks != 'where':
        menu += ['place', 'place', 'place and time']
    if verb.stem in verbs.SOCIAL:
        menu += ['company']
    if form == 'question' and not act.asks and subject is not words.WHO and mood in _ASKED:
        menu += ['when'] if mood != 'progressive' else []
        menu += ['where'] if verb.places else []
    choice = draw.pick(menu)
    if choice == 'when':
        return _Setting(time=('언제', ''), asks='when')
    if choice == 'where':
        return _Setting(place=('어디에서', ''), asks='where')
    if choice == 'company':
        return _Setting(company=_company(draw, subject, mood), asks=act.asks)
    if isinstance(choice, tuple):
        thing, english = draw.pick(act.tools)
        return _Setting(tool=(particle(thing, '으로/로'), english), asks=act.asks)
    time = draw.pick(words.TIMES[mood]) if 'time' in choice else ('', '')
    place = ('', '')
    if 'place' in choice:
        where = draw.pick(verb.places)
        place = (f'{where}에서', words.PLACES[where])
    return _Setting(time, place, asks=act.asks)


def _company(draw: Draw, subject: words.Subject, mood: str) -> tuple[str, str]:
    """With whom: kin, who are the subject's own, only where it is a pronoun."""
    if subject.owner and mood not in _WITHOUT_SUBJECT and draw.chance(0.4):
        kin = draw.pick(words.KIN)
        return kin.korean, f'with {subject.owner} {kin.english}'
    korean, english = draw.pick(_COMPANY)
    return korean, f'with {english}'


def _repeats(words_used: list[str]) -> bool:
    used = [word for word in words_used if word]
    return len(set(used)) < len(used)


def _may_be_short(act: Act, mood: str) -> bool:
    """Whether 안 or 못 can stand before the verb: not before noun + 하다, nor after an adverb."""
    stem = act.verb.stem
    nominal = (stem[-1] == '하' and stem not in ('하', '좋아하', '싫어하')) or stem == '춤추'
    return mood in (*_TENSES, 'can') and not nominal and act.korean not in verbs.ADVERBS


def _korean(
    act: Act, mood: str, manner: Manner, setting: _Setting, marked: str, subject: words.Subject
) -> str:
    verb = act.verb
    if verb.stem == '알' and manner.form == 'negative':  # the opposite of to know is a verb, 모르다
        verb, manner = verb._replace(stem='모르'), manner._replace(form='statement')
    company = particle(setting.company[0], '과/와') if setting.company[0] else ''
    first = ''
    if act.before:
        thing, deed = act.before
        first = f'{thing} {(manner.honorific and deed.honorific) or deed.stem}고'
    third_person = subject.korean not in ('', '저', '우리')
    done = predicate(verb, mood, manner, third_person=third_person)
    place, tool = setting.place[0], setting.tool[0]
    return join(marked, setting.time[0], place, company, tool, first, act.korean, done)


def _english(act: Act, mood: str, form: str, setting: _Setting, subject: words.Subject) -> str:
    phrases = act.english
    if form == 'negative' or mood == 'forbid':
        phrases = [phrase.replace(' and ', ' or ') for phrase in phrases]
    if mood in _WITHOUT_SUBJECT:
        said = join(_WITHOUT_SUBJECT[mood], *phrases)
    else:
        order = 'statement' if subject is words.WHO else form
        who = name(subject, form)
        said = clause(who, subject.number, mood, order, phrases, setting.asks)
    return join(said, setting.tool[1], setting.company[1], setting.place[1], setting.time[1])


def _to(place: str) -> str:
    """Where one goes: 'home', 'to school', 'to Korea'."""
    at = {**words.PLACES, **words.CITIES}[place]
    return 'home' if place == '집' else f'to {at.split(maxsplit=1)[1]}'
