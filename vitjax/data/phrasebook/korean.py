"""Korean particles, endings and predicates, formed on the letters of a word's last syllable.

A stem is the dictionary form without its 다. Sources: Hangul syllables, The Unicode Standard, section
3.12; particles and endings, National Institute of Korean Language, Hangeul orthography (한글 맞춤법),
articles 16, 18 and 34 to 38.
"""

import functools
from typing import NamedTuple

_VOWELS = 'ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ'
_FINALS = ' ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ'
_CONTRACTED = {
    'ㅗ': 'ㅘ',
    'ㅜ': 'ㅝ',
    'ㅣ': 'ㅕ',
}  # 보 + 아 = 봐, 배우 + 어 = 배워, 마시 + 어 = 마셔
_REGULAR_B = ('입',)  # other stems in ㅂ, and only these in ㄷ, are irregular
_IRREGULAR_D = ('듣', '걷')


def _letters(word: str) -> tuple[str, str]:
    """Vowel and final consonant (' ' if there is none) of the last syllable."""
    vowel, final = divmod((ord(word[-1]) - ord('가')) % (21 * 28), 28)
    return _VOWELS[vowel], _FINALS[final]


def _change(word: str, *, vowel: str | None = None, final: str = ' ') -> str:
    """`word` with another vowel, if one is given, and another final consonant at its end."""
    initial = (ord(word[-1]) - ord('가')) // (21 * 28)
    vowel = _VOWELS.index(vowel or _letters(word)[0])
    return word[:-1] + chr(ord('가') + (initial * 21 + vowel) * 28 + _FINALS.index(final))


def particle(word: str, forms: str) -> str:
    """`word` with the form of a particle that its last syllable asks for.

    Args:
      forms: after a consonant and after a vowel: '은/는', '이/가', '을/를', '과/와', '으로/로'.
    """
    final = _letters(word)[1]
    after_consonant, after_vowel = forms.split('/')
    open_ended = final == ' ' or (final == 'ㄹ' and forms == '으로/로')  # 연필로
    return word + (after_vowel if open_ended else after_consonant)


@functools.cache
def attach(stem: str, ending: str) -> str:
    """A stem and an ending that is shorter after a vowel: '습니다', '으시', '은', '을', '읍시다', '으러'."""
    final = _letters(stem)[1]
    if final == 'ㄹ':
        if ending == '으러':
            return stem + '러'
        stem = _change(stem)  # 살 + 습니다 = 삽니다
    elif ending[0] != '습':
        if final == 'ㅂ' and not stem.endswith(_REGULAR_B):
            stem = _change(stem) + '우'  # 춥 + 은 = 추운
        elif stem.endswith(_IRREGULAR_D):
            return _change(stem, final='ㄹ') + ending  # 듣 + 을 = 들을
    if _letters(stem)[1] != ' ':
        return stem + ending
    if ending[0] == '으':
        return stem + ending[1:]
    return _change(stem, final=_letters(ending[0])[1]) + ending[1:]


@functools.cache
def infinitive(stem: str) -> str:
    """A stem with 아 or 어, contracted: 가, 먹어, 마셔, 해, 몰라, 추워."""
    vowel, final = _letters(stem)
    harmony = stem[-2:-1].strip() and _letters(stem[-2])[0] in 'ㅏㅗ'
    if stem[-1] == '하':
        return stem[:-1] + '해'
    if stem[-1] == '르':
        return _change(stem[:-1], final='ㄹ') + ('라' if harmony else '러')
    if final == ' ':
        if vowel == 'ㅡ':
            return _change(stem, vowel='ㅏ' if harmony else 'ㅓ')
        if vowel in _CONTRACTED:
            return _change(stem, vowel=_CONTRACTED[vowel])
        return stem if vowel in 'ㅏㅐㅓ' else stem + '어'
    if final == 'ㅂ' and not stem.endswith(_REGULAR_B):
        return _change(stem) + ('와' if stem == '돕' else '워')
    if stem.endswith(_IRREGULAR_D):
        stem = _change(stem, final='ㄹ')
    return stem + ('아' if vowel in 'ㅏㅗ' and final != 'ㅆ' else '어')


def past(stem: str) -> str:
    """The stem of the past: 갔, 먹었, 마셨, 했."""
    return _change(infinitive(stem), final='ㅆ')


class Manner(NamedTuple):
    """How something is said, beside what is said.

    Attributes:
      formal: -습니다 (합쇼체), else -아요 (해요체).
      form: 'statement', 'negative' or 'question'.
      honorific: the subject is honoured with -(으)시-.
      short: a negative with 안 or 못 before the verb, not with -지 않다 or -(으)ㄹ 수 없다.
    """

    formal: bool
    form: str = 'statement'
    honorific: bool = False
    short: bool = False


def finish(stem: str, manner: Manner, tense: str = 'present', *, honorific: bool = False) -> str:
    """A stem with the ending of a sentence: 갑니다, 갔어요, 갈 거예요, 가십니까, 가지 않습니다.

    Args:
      tense: 'present', 'past', 'future' (-(으)ㄹ 것이다) or 'intend' (-겠다).
      honorific: `stem` ends in the honorific 시, whose 어요 is 세요: 가세요, but 마셔요.
    """
    question = manner.form == 'question'
    if manner.form == 'negative' and not manner.short:
        stem, honorific = f'{stem}지 않', False
    elif manner.form == 'negative':
        stem = f'안 {stem}'
    if tense == 'future':
        ending = ('겁니까' if question else '겁니다') if manner.formal else '거예요'
        return f'{attach(stem, "을")} {ending}'
    if tense == 'intend':
        stem += '겠'
    elif tense == 'past':
        stem, honorific = past(stem), False
    if manner.formal:
        return attach(stem, '습니까' if question else '습니다')
    return f'{stem[:-1]}세요' if honorific else f'{infinitive(stem)}요'


def be(noun: str, manner: Manner, tense: str = 'present') -> str:
    """A noun with the copula 이다, in the negative 아니다: 학생입니다, 의사예요, 의사가 아니었어요."""
    vowel = _letters(noun)[1] == ' '
    affirmed = manner._replace(form='question' if manner.form == 'question' else 'statement')
    if manner.form == 'negative':
        noun = particle(noun, '이/가') + ' '
        stem, plain = '아니', '아니에요'
        pasts = '아니었'
    else:
        stem, plain = '이', '예요' if vowel else '이에요'
        pasts = '였' if vowel else '이었'
    if manner.honorific:
        dropped = stem == '이' and vowel and not manner.formal and tense == 'present'
        return noun + finish('시' if dropped else f'{stem}시', affirmed, tense, honorific=True)
    if tense == 'past':
        return noun + finish(pasts, affirmed)
    return noun + (finish(stem, affirmed) if manner.formal else plain)


def predicate(verb, mood: str, manner: Manner, *, third_person: bool = False) -> str:
    """A verb in a mood.

    Args:
      verb: a `verbs.Verb`.
      mood: a tense of `finish`, 'progressive' (-고 있다), 'can' (-(으)ㄹ 수 있다, 못), 'want' (-고
        싶다), 'must' (-아야 하다), 'command' (-(으)세요), 'forbid' (-지 마세요), 'propose'
        (-(으)ㅂ시다) or 'shall' (-(으)ㄹ까요).
      third_person: who wants is neither speaker nor hearer: -고 싶어 하다.
    """
    honorific = manner.honorific
    base = (honorific and verb.honorific) or verb.stem
    stem = honour(verb) if honorific else verb.stem
    negative = manner.form == 'negative'
    match mood:
        case 'command':
            honoured = honour(verb)
            return attach(honoured, '읍시오') if manner.formal else f'{honoured[:-1]}세요'
        case 'forbid':
            return f'{verb.honorific or verb.stem}지 {"마십시오" if manner.formal else "마세요"}'
        case 'propose':
            return attach(stem, '읍시다')
        case 'shall':
            return attach(stem, '을') + '까요'
        case 'progressive':
            return f'{base}고 ' + finish('계시' if honorific else '있', manner, honorific=honorific)
        case 'want' if third_person:
            wish = '하시' if honorific else '하'
            return f'{base}고 싶어 ' + finish(wish, manner, honorific=honorific)
        case 'want':
            wish = '싶으시' if honorific else '싶'
            return f'{base}고 ' + finish(wish, manner, honorific=honorific)
        case 'must':
            return f'{infinitive(stem)}야 ' + finish('하', manner)
        case 'can' if negative and manner.short:
            affirmed = manner._replace(form='statement')
            return '못 ' + finish(stem, affirmed, honorific=honorific)
        case 'can':
            able, affirmed = '있', manner
            if negative:
                able, affirmed = '없', manner._replace(form='statement')
            return f'{attach(stem, "을")} 수 ' + finish(able, affirmed)
    return finish(stem, manner, mood, honorific=honorific)


def honour(verb) -> str:
    """The honorific stem of a verb or adjective: 읽으시, 드시."""
    return verb.honorific or attach(verb.stem, '으시')
