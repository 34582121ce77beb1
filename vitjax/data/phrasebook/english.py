"""English nouns, verbs and clauses, as far as the phrasebook needs them."""

_PASTS = {
    'buy': 'bought',
    'choose': 'chose',
    'come': 'came',
    'cut': 'cut',
    'do': 'did',
    'draw': 'drew',
    'drink': 'drank',
    'drive': 'drove',
    'eat': 'ate',
    'get': 'got',
    'go': 'went',
    'have': 'had',
    'know': 'knew',
    'make': 'made',
    'meet': 'met',
    'read': 'read',
    'run': 'ran',
    'sell': 'sold',
    'send': 'sent',
    'sing': 'sang',
    'sleep': 'slept',
    'swim': 'swam',
    'take': 'took',
    'teach': 'taught',
    'wear': 'wore',
    'write': 'wrote',
}
_THIRD_PERSONS = {'have': 'has', 'go': 'goes'}
_WITH_TO = {'want': 'want to', 'must': 'have to'}
_PLURALS = {'child': 'children'}


def inflect(phrase: str, form: str) -> str:
    """A phrase that begins with a verb ('listen to music') in its 'base', 's', 'past' or 'ing' form."""
    verb, *rest = phrase.split()
    if form == 's':
        verb = _THIRD_PERSONS.get(verb) or _with_s(verb)
    elif form == 'past':
        verb = _PASTS.get(verb) or _softened(verb).removesuffix('e') + 'ed'
    elif form == 'ing':
        doubled = verb[-1] if verb in ('cut', 'get', 'run', 'swim') else ''
        verb = verb.removesuffix('e') + doubled + 'ing'
    return ' '.join([verb, *rest])


def plural(noun: str) -> str:
    """The plural of an English noun, whose last word takes the ending."""
    *rest, last = noun.split()
    return ' '.join([*rest, _PLURALS.get(last) or _with_s(last)])


def article(words: str) -> str:
    """'a' or 'an' and the words, by the first letter."""
    return f'{"an" if words[0] in "aeiou" else "a"} {words}'


def _softened(word: str) -> str:
    """study -> studi, as before an ending; play stays."""
    return word[:-1] + 'i' if word[-1] == 'y' and word[-2] not in 'aeou' else word


def _with_s(word: str) -> str:
    hisses = word.endswith(('s', 'x', 'ch', 'sh')) or _softened(word) != word
    return _softened(word) + ('es' if hisses else 's')


def to_be(number: str, tense: str = 'present') -> str:
    """am, is, are, was, were or 'will be' for a subject of a `number`."""
    if tense == 'future':
        return 'will be'
    if tense == 'past':
        return 'was' if number in ('I', 'one') else 'were'
    return {'I': 'am', 'one': 'is'}.get(number, 'are')


def clause(name: str, number: str, mood: str, form: str, phrases: list[str], asks: str = '') -> str:
    """A subject and what it does.

    Args:
      number: of the subject: 'I', 'you', 'one' or 'many'.
      mood: as in `korean.predicate`, with a subject.
      form: 'statement', 'negative' or 'question'.
      phrases: verbs with their objects, 'read a book'; they are joined by 'and'.
      asks: question word to begin with.
    """
    if mood in _WITH_TO:
        phrases, mood = [f'{_WITH_TO[mood]} {" and ".join(phrases)}'], 'present'
    do = 'does' if number == 'one' else 'do'
    auxiliaries = {'present': do, 'past': 'did', 'progressive': to_be(number), 'can': 'can'}
    auxiliary, shape = auxiliaries.get(mood, 'will'), 'base'
    if mood == 'progressive':
        shape = 'ing'
    elif form == 'statement' and mood in ('present', 'past'):
        auxiliary = ''
        shape = 'past' if mood == 'past' else 's' if number == 'one' else 'base'
    begin = f'{name} {auxiliary}'
    if form == 'question':
        begin = f'{asks} {auxiliary} {name}'
    elif form == 'negative':
        begin += 'not' if mood == 'can' else ' not'
    return ' '.join([*begin.split(), ' and '.join(inflect(phrase, shape) for phrase in phrases)])


def be_clause(name: str, be: str, form: str, rest: str) -> str:
    """A subject, a form of 'be' as `to_be` gives it, and the rest; `form` as in `clause`."""
    first, *then = be.split()
    if form == 'question':
        return ' '.join([first, name, *then, rest])
    return ' '.join([name, first, *['not'] * (form == 'negative'), *then, rest])
