"""Sentence pairs from two aligned text files per split, or from one file of tab-separated values."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from vitjax.data.pairs import Pairs
from vitjax.data.paths import data_folder
from vitjax.errors import UserError


def splits(path: str | None, languages: tuple[str, str]) -> Mapping[str, Callable[[], Pairs]]:
    """The splits in a folder: 'train' of `train.ko` and `train.en`, or of `train.tsv`; 'test' likewise.

    Line n of one file translates line n of the other; a line of a TSV is a sentence, a tab and its
    translation. Files are UTF-8, and only a newline ends a line.

    Raises:
      UserError: no such folder, no such files in it, one language without the other; when a split is
        opened: invalid UTF-8, files of different length, a TSV without two columns, nothing at all.
    """
    root = data_folder(path, 'parallel', 'a folder of text files')
    source, target = (f'.{language}' for language in languages)
    found = {file.stem: functools.partial(_tsv, file) for file in sorted(root.glob('*.tsv'))}
    for file in sorted(root.glob(f'*{source}')):
        found[file.stem] = functools.partial(_two_files, file, file.with_suffix(target))
    if not found:
        raise UserError(
            f'{path} has neither files such as train{source} and train{target} nor train.tsv; '
            'config.text.languages names the endings'
        )
    return found


def _two_files(source: Path, target: Path) -> Pairs:
    sources, targets = _lines(source), _lines(target)
    if len(sources) != len(targets):
        raise UserError(
            f'{source} has {len(sources)} lines but {target} has {len(targets)}; line n of one '
            'must translate line n of the other'
        )
    return Pairs(str(source.with_suffix('')), sources, targets)


def _tsv(file: Path) -> Pairs:
    rows = [line.split('\t') for line in _lines(file)]
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            raise UserError(
                f'{file}, line {number}: expected a sentence, a tab and its translation, '
                f'but it has {len(row)} columns'
            )
    return Pairs(str(file), *zip(*rows, strict=True)) if rows else Pairs(str(file), (), ())


def _lines(file: Path) -> list[str]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f'cannot read {file}: {error.strerror}') from error
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        # The codec counts from the end of the byte order mark.
        line = content.count(b'\n', 0, len(content) - len(error.object) + error.start) + 1
        raise UserError(
            f'{file}, line {line} is not UTF-8; convert it, for example with iconv'
        ) from error
    # Not splitlines(), which also splits at characters such as U+2028 inside a sentence.
    lines = text.replace('\r\n', '\n').split('\n')
    return lines if lines[-1] else lines[:-1]
