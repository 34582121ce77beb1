"""What writers of records to other services share."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from vitjax.errors import UserError
from vitjax.files import read_json, write_atomically
from vitjax.protocols import Event


def import_extra(name: str) -> ModuleType:
    """A module of an extra that is called as its library; UserError that names the extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = name.partition('.')[0]
        raise UserError(
            f"config.callbacks: {extra} is not installed: pip install 'vitjax[{extra}]'"
        ) from error


def named_metrics(event: Event) -> dict[str, float]:
    """The numbers of an event as 'train/loss', 'test/accuracy', 'knn/accuracy'."""
    return {
        f'{event.name}/{name}': value for name, value in event.metrics.items() if value is not None
    }


def flat(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Dotted key -> value of nested dicts."""
    values = {}
    for key, value in config.items():
        name = f'{prefix}{key}'
        values |= flat(value, f'{name}.') if isinstance(value, Mapping) else {name: value}
    return values


def read_id(path: Path) -> str | None:
    """The name of the record that a run goes on with, from a file in its folder; None for a new one."""
    return read_json(path)['id'] if path.is_file() else None


def write_id(path: Path, name: str) -> None:
    """Stores the name of the record, so that a run that is resumed goes on with it."""
    write_atomically(path, json.dumps({'id': name}) + '\n')
