"""Types of config values: ranges, and bringing a value or a text to a type."""

import ast
import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

from vitjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a finite number; stands in the annotation of a key.

    Attributes:
      low, high: both included.
      above: excluded.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf

    def __contains__(self, number: float) -> bool:
        return math.isfinite(number) and self.low <= number <= self.high and number > self.above

    def __str__(self):
        if self.above > -math.inf:
            return f'above {self.above}'
        if self.high == math.inf:
            return f'at least {self.low}'
        return f'between {self.low} and {self.high}'


Count = Annotated[int, Range(low=1)]
NotNegative = Annotated[float, Range(low=0)]
Positive = Annotated[float, Range(above=0)]
Fraction = Annotated[float, Range(0, 1)]
# Steps as a number, or a text with a unit: '500 steps', '2 epochs', '10000 examples'.
Duration = Annotated[int, Range(low=0)] | str


def signature(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Keyword arguments that a config may set: those with a default and an annotation of plain values."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        if parameter.default is parameter.empty or name in ('parent', 'name') or kind is Any:
            continue
        found[name] = (kind, parameter.default)
    return found


def parse(key: str, kind: Any, text: str) -> Any:
    """The value that a command-line text stands for, given the key's type."""
    words = {'true': True, 'false': False, 'none': None}
    try:
        value = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    try:
        return checked(key, kind, value)
    except UserError:
        if isinstance(value, str):
            raise
        try:
            return checked(key, kind, text)  # a name that looks like a number, say
        except UserError:
            return checked(key, kind, value)


def checked(key: str, kind: Any, value: Any) -> Any:
    """The value, brought to the key's type where nothing is lost; UserError where it does not fit."""
    fits, value = _fit(kind, value)
    if fits:
        return value
    if not _fit(_without_ranges(kind), value)[0] or isinstance(value, str):
        raise UserError(f'{key}: expected {_words(kind)}, got {value!r}')
    raise UserError(f'{key}: {value!r} is out of range, expected {_words(kind)}')


def _fit(kind: Any, value: Any) -> tuple[bool, Any]:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        fits, value = _fit(parts[0], value)
        return fits and all(value in bound for bound in parts[1:]), value
    if origin in (typing.Union, types.UnionType):
        for part in parts:
            fits, fitted = _fit(part, value)
            if fits:
                return True, fitted
        return False, value
    if origin is Literal:
        return value in parts, value
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            # One value stands for a tuple of one where any length will do.
            if parts[-1] is not Ellipsis or value is None:
                return False, value
            value = (value,)
        kinds = (parts[0],) * len(value) if parts[-1] is Ellipsis else parts
        fitted = [_fit(part, item) for part, item in zip(kinds, value, strict=False)]
        return len(kinds) == len(value) and all(ok for ok, _ in fitted), tuple(
            item for _, item in fitted
        )
    if kind is None or kind is type(None):
        return value is None, value
    if kind is float and type(value) is int:
        return True, float(value)
    if kind is int and type(value) is float and value.is_integer():
        return True, int(value)
    return type(value) is kind, value


def _without_ranges(kind: Any) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return parts[0]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_without_ranges(part) for part in parts)]  # noqa: UP007
    return kind


def _words(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return f'{_words(parts[0])} {" and ".join(map(str, parts[1:]))}'
    if origin in (typing.Union, types.UnionType):
        return ' or '.join(_words(part) for part in parts)
    if origin is Literal:
        return ' or '.join(map(repr, parts))
    if origin is tuple:
        return f'({", ".join("..." if part is Ellipsis else _words(part) for part in parts)})'
    return 'None' if kind in (None, type(None)) else kind.__name__
