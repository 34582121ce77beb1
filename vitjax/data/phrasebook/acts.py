"""What somebody may do: verbs with their objects, said of nobody yet."""

from typing import NamedTuple

from vitjax.data.phrasebook import verbs, words
from vitjax.data.phrasebook.english import plural
from vitjax.data.phrasebook.korean import attach, particle
from vitjax.data.phrasebook.parts import Draw, bare, count, point

OBJECTS = [(verb, words.NOUNS[noun]) for verb in verbs.TRANSITIVE for noun in verb.partners]
DEEDS = [(verb, noun) for verb, noun in OBJECTS if 'command' in verb.moods]
ERRANDS = [(verb, noun) for verb, noun in DEEDS if verb.places]
_QUALITIES = {
    noun: [quality for quality in verbs.QUALITIES if noun in quality.nouns] for noun in words.NOUNS
}


class Act(NamedTuple):
    """A verb and what belongs to it.

    `korean` stands before the verb and `english` holds phrases such as 'read a book'. None of
    `persons` can be the subject. `tools` are what it may be done with, `asks` is the question word in
    it, and `before` an object and a verb that are joined to it by -고.
    """

    verb: verbs.Verb
    korean: str
    english: tuple[str, ...]
    combinations: tuple[tuple[str, str], ...] = ()
    persons: tuple[str, ...] = ()
    tools: tuple[tuple[str, str], ...] = ()
    asks: str = ''
    before: tuple[str, verbs.Verb] | None = None


def with_object(draw: Draw, verb: verbs.Verb, noun: words.Noun) -> Act:
    """The verb with the noun as its object, as it is or pointed at, owned, described, counted ..."""
    general = verb.stem in verbs.PREFERENCES
    korean, english = noun.korean, bare(noun, general=general)
    combinations, persons = [(noun.korean, f'{verb.stem}다')], [noun.korean]
    shape = draw.pick(_SHAPES[verb.stem, noun.korean])
    if shape == 'pointed':
        korean, english = point(draw, noun)
    elif shape == 'owned':
        owner, whose = draw.pick(words.OWNERS)
        korean, english = f'{owner} {korean}', f'{whose} {noun.english}'
        persons.append(owner.removesuffix('의'))
    elif shape == 'described':
        quality = draw.pick(_QUALITIES[noun.korean])
        existing = quality.stem.endswith('있')
        korean = f'{quality.stem + "는" if existing else attach(quality.stem, "은")} {korean}'
        english = bare(noun, described=quality.english, general=general)
        combinations.append((noun.korean, f'{quality.stem}다'))
    elif shape == 'counted':
        korean, english = count(draw, noun)
    elif shape == 'several':
        korean, english = f'{korean}들', plural(noun.english)
    elif shape == 'two':
        other = words.NOUNS[draw.pick([word for word in verb.partners if word != noun.korean])]
        korean = f'{particle(korean, "과/와")} {other.korean}'
        english = f'{english} and {bare(other, general=general)}'
        combinations.append((other.korean, f'{verb.stem}다'))
    tools = tuple(verbs.TOOLS.get((verb.stem, noun.korean), ()))
    phrase = (f'{verb.english} {english}',)
    korean = particle(korean, '을/를')
    return Act(verb, korean, phrase, tuple(combinations), tuple(persons), tools)


def _shapes(verb: verbs.Verb, noun: words.Noun) -> tuple[str, ...]:
    """Shapes that `with_object` may give to the object of a verb, 'bare' more often than others."""
    person = noun.counter == '명' or noun.korean in words.PERSONS
    shapes = ['bare'] * 4
    if noun.kind != 'fixed':
        shapes.append('pointed')
        if noun.korean in words.CARRIED:
            shapes.append('owned')
        if _QUALITIES[noun.korean]:
            shapes.append('described')
        if noun.counter and verb.stem in verbs.COUNTING:
            shapes.append('counted')
    if noun.counter == '명':
        shapes.append('several')
    if not person and not any(word in words.PERSONS for word in verb.partners):
        shapes.append('two')
    return tuple(shapes)


_SHAPES = {(verb.stem, noun.korean): _shapes(verb, noun) for verb, noun in OBJECTS}
