"""Files and folders: reading small ones, and writing any whole or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitjax.errors import RunError, UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file, and its folder if need be; RunError if the disk does not take it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + '.tmp')
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(unfinished, path)
    except OSError as error:
        raise RunError(f'cannot write {path}: {error.strerror}') from error


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write a file or folder to, which becomes `path` when nothing went wrong.

    Raises UserError where there is something already (but an empty folder), and RunError if the disk
    does not take it; then nothing is left behind.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f'{path} exists and is not an empty folder; choose another place')
    unfinished = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise RunError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds; UserError if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f'{path.parent} is not the folder of a run: it has no {path.name}'
        ) from None
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}') from error
