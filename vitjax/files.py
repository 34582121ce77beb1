"""The small files of a run's folder: reading them, and writing them whole or not at all."""

import json
import os
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
