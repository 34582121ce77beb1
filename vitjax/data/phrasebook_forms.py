"""How the words of the phrasebook inflect, in Korean and in English.

A Korean stem is the dictionary form without its 다. Sources: Hangul syllables, The Unicode Standard,
section 3.12; particles and endings, National Institute of Korean Language, Hangeul orthography
(한글 맞춤법), articles 16, 18 and 34 to 38.
"""

import functools
_VOWELS = 'ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ'
_FINALS = ' ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ'
_CONTRACTED = {'ㅗ': 'ㅘ', 'ㅜ': 'ㅝ', 'ㅣ': 'ㅕ'}  # 보 + 아 = 봐, 배우 + 어 = 배워, 마시 + 어 = 마셔
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


_PASTS = dict(
    pair.split()
    for pair in (
        'be was,buy bought,choose chose,come came,cut cut,do did,draw drew,drink drank,drive drove,'
        'eat ate,get got,go went,have had,know knew,learn learned,make made,meet met,read read,'
        'run ran,sell sold,send sent,sing sang,sleep slept,swim swam,take took,teach taught,'
        'wear wore,write wrote'
    ).split(',')
)
_PLURALS = {'child': 'children', 'man': 'men', 'woman': 'women', 'person': 'people', 'key': 'keys'}
_HISSES = ('s', 'x', 'ch', 'sh')


def inflect(phrase: str, form: str) -> str:
    """A phrase whose first word is a verb ('listen to music') in 'base', 's', 'past' or 'ing' form."""
    verb, *rest = phrase.split()
    softened = verb[:-1] if verb[-1] == 'y' and verb[-2] not in 'aeiou' else ''  # study, studies
    if form == 's':
        endings = {'have': 'has', 'go': 'goes', 'do': 'does'}
        verb = endings.get(verb) or (f'{softened}ies' if softened else _with_s(verb))
    elif form == 'past':
        regular = f'{softened}ied' if softened else verb.removesuffix('e') + 'ed'
        verb = _PASTS.get(verb, regular)
    elif form == 'ing':
        if verb in ('cut', 'get', 'run', 'swim'):
            verb += verb[-1]
        verb = verb.removesuffix('e') + 'ing'
    return ' '.join([verb, *rest])


def plural(noun: str) -> str:
    """The plural of an English noun, whose last word takes the ending."""
    *rest, noun = noun.split()
    softened = noun[:-1] if noun[-1] == 'y' else ''
    regular = f'{softened}ies' if softened else _with_s(noun)
    return ' '.join([*rest, _PLURALS.get(noun, regular)])


def article(words: str) -> str:
    """'a' or 'an' and the words; by the letter, but for a university."""
    vowel = words[0] in 'aeiou' and not words.startswith('uni')
    return f'{"an" if vowel else "a"} {words}'


def _with_s(word: str) -> str:
    return word + ('es' if word.endswith(_HISSES) else 's')
