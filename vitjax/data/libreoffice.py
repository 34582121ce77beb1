"""LibreOffice's help in two languages, from Debian's packages: paragraphs with their translations."""

import collections
import functools
import hashlib
import html
import itertools
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from vitjax.data.pairs import Pairs
from vitjax.errors import UserError

logger = logging.getLogger(__name__)

_ROOT = '/usr/share/libreoffice/help'
_FOLDERS = {'en': 'en-US'}  # of languages whose folder has another name
_HELD_OUT = 0.05  # of the documents, for each of 'valid' and 'test'
_ALIKE = 0.5
_PARAGRAPH = re.compile(r'<(p|h\d)\b[^>]* id="((?:par|hd)_[^"]*)"[^>]*>(.*?)</\1>', re.DOTALL)
_TAG = re.compile(r'<(/?)(\w+)([^>]*)>')
_HANGUL = re.compile('[가-힣]')


def splits(path: str | None, languages: tuple[str, str]) -> Mapping[str, Callable[[], Pairs]]:
    """'train', 'valid' and 'test', split by document: one in 20 each is held out, by hashes of names.

    Paragraphs translate each other if file and id are the same. Each pair counts once, for the first
    document that has it; those that are not translated, with equal sides or Korean without Hangul,
    are left out, and so are pairs of 'train' that are near-duplicates of held-out ones.

    Args:
      path: the folder of the help, by default Debian's.

    Raises:
      UserError: the help of one of the languages is not there.
    """
    root = Path(path or _ROOT)
    return {
        name: functools.partial(_open, root, languages, name) for name in _read(root, languages)
    }


def _open(root: Path, languages: tuple[str, str], split: str) -> Pairs:
    pairs = _read(root, languages)[split]
    return Pairs(f'libreoffice {split}', [pair[0] for pair in pairs], [pair[1] for pair in pairs])


@functools.cache
def _read(root: Path, languages: tuple[str, str]) -> dict[str, list[tuple[str, str]]]:
    folders = [root / _FOLDERS.get(language, language) for language in languages]
    missing = [folder.name.lower() for folder in folders if not (folder / 'text').is_dir()]
    if missing:
        packages = ' '.join(f'libreoffice-help-{name}' for name in missing)
        raise UserError(f'no LibreOffice help in {root} for {missing}; apt install {packages}')
    parts: dict[str, list[tuple[str, str]]] = {'train': [], 'valid': [], 'test': []}
    seen = set()
    source, target = (folder / 'text' for folder in folders)
    for file in sorted(source.rglob('*.html')):
        document = file.relative_to(source).as_posix()
        translated = _paragraphs(target / document)
        for key, text in _paragraphs(file).items():
            pair = (text, translated.get(key, ''))
            if pair not in seen and _is_translated(pair, languages):
                seen.add(pair)
                parts[_split_of(document)].append(pair)
    held_out = parts['valid'] + parts['test']
    found = len(parts['train'])
    parts['train'] = without_near_duplicates(parts['train'], held_out)
    logger.info(
        'libreoffice: %d of %d training pairs are near-duplicates of valid or test and left out',
        found - len(parts['train']),
        found,
    )
    return parts


def _split_of(document: str) -> str:
    digest = hashlib.blake2b(document.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, 'big') / 2**64
    return 'test' if place < _HELD_OUT else 'valid' if place < 2 * _HELD_OUT else 'train'


def _is_translated(pair: tuple[str, str], languages: tuple[str, str]) -> bool:
    korean = (text for text, language in zip(pair, languages, strict=True) if language == 'ko')
    return all(pair) and pair[0] != pair[1] and all(map(_HANGUL.search, korean))


def _paragraphs(file: Path) -> dict[str, str]:
    """Text of the paragraphs and headings of a page by their ids; none if there is no such page."""
    if not file.is_file():
        return {}
    page = file.read_text(encoding='utf-8', errors='replace')
    return {key: plain_text(markup) for _, key, markup in _PARAGRAPH.findall(page)}


def plain_text(markup: str) -> str:
    """The text of a paragraph; for a switch between platforms or programs, the text of its last branch.

    A switch is a span of class 'switchinline', its branches are the hidden spans in it. The default branch,
    for platforms without a branch of their own, comes last if there is one.
    """
    parts: list[str] = []
    opened: list[int | None] = []  # per open span: where its last branch starts in `parts`
    end = 0
    for tag in _TAG.finditer(markup):
        parts.append(markup[end : tag.start()])
        end = tag.end()
        closing, name, attributes = tag.groups()
        if name == 'br':
            parts.append(' ')
        elif name == 'span' and closing:
            del opened[-1:]
        elif name == 'span':
            if 'hidden=' in attributes and opened and opened[-1] is not None:
                del parts[opened[-1] :]  # a branch replaces the one before it
            opened.append(len(parts) if 'class="switch' in attributes else None)
    parts.append(markup[end:])
    return ' '.join(html.unescape(''.join(parts)).split())


def without_near_duplicates(
    pairs: Iterable[tuple[str, str]], held_out: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The pairs of which neither side is nearly the same as that side of a held-out pair.

    Sentences are nearly the same if at least half of all pairs of neighbouring words (with start and
    end) in either are in both; case, punctuation and the values of numbers do not count.
    """
    kept = list(pairs)
    for side in (0, 1):
        places, sizes = collections.defaultdict(list), []
        for number, shingles in enumerate({_shingles(pair[side]) for pair in held_out}):
            sizes.append(len(shingles))
            for shingle in shingles:
                places[shingle].append(number)
        kept = [pair for pair in kept if not _is_near(_shingles(pair[side]), places, sizes)]
    return kept


def _is_near(shingles: frozenset, places: Mapping[tuple, list[int]], sizes: list[int]) -> bool:
    common = collections.Counter(
        itertools.chain.from_iterable(places.get(shingle, ()) for shingle in shingles)
    )
    return any(
        count >= _ALIKE * (len(shingles) + sizes[number] - count)
        for number, count in common.items()
    )


def _shingles(text: str) -> frozenset[tuple[str, str]]:
    text = re.sub(r'\d+', '0', unicodedata.normalize('NFKC', text).casefold())
    return frozenset(itertools.pairwise(['', *re.findall(r'\w+', text), '']))
