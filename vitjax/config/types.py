"""Types of config values: ranges, and bringing a value or a text to a type."""

import ast
import builtins
import dataclasses
import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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


class _Required:
    """The default of an argument that has none: a config must give it a value."""

    def __repr__(self):
        return 'REQUIRED'


REQUIRED = _Required()

_PLAIN = (bool, int, float, str)


def signature(
    target: Callable[..., Any], reserved: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Keyword arguments that a config may set: name -> (type, default or REQUIRED).

    They are those whose annotation, or without one whose default, is of plain values: numbers, texts, None,
    `Literal`, and sequences and mappings of them. What else a union names, such as a callable, cannot be
    written in a config and is left out of it.

    Args:
      target: a class, dataclass, Flax module, function or `functools.partial` of one.
      reserved: names of arguments that the caller gives itself.

    Raises:
      UserError: an argument has no default, and no type that a config can hold.
    """
    hints = _type_hints(target)
    found, parameters = {}, inspect.signature(target).parameters
    if 'parent' in parameters:  # of a Flax module
        reserved = (*reserved, 'parent', 'name')
    for name, parameter in parameters.items():
        if name in reserved or parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.POSITIONAL_ONLY,
        ):
            continue
        default = parameter.default
        annotation = hints.get(name, parameter.annotation)
        if annotation is parameter.empty:
            kind = Any if default is parameter.empty else _type_of(default)
        else:
            kind = _plain(annotation)
        if default is parameter.empty:
            if kind is None:
                shown = getattr(target, '__qualname__', repr(target))
                raise UserError(
                    f'{shown}: argument {name!r} has no default, and a config cannot hold its type '
                    f'{annotation}'
                )
            default = REQUIRED
        if kind is not None:
            found[name] = (kind, default)
    return found


def _type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Annotations with those evaluated that are written as text, as far as they can be."""
    while isinstance(target, functools.partial):
        target = target.func
    if not isinstance(target, type):
        targets = [target if hasattr(target, '__annotations__') else type(target).__call__]
    elif '__init__' in target.__dict__ and not dataclasses.is_dataclass(target):
        targets = [target.__init__]
    else:
        targets = [target, target.__init__]
    hints = {}
    for each in targets:
        try:
            hints |= typing.get_type_hints(each, include_extras=True)
        except Exception:  # one annotation that cannot be evaluated fails them all
            hints |= _each_hint(each)
    return hints


def _each_hint(target: Any) -> dict[str, Any]:
    hints = {}
    for owner in reversed(target.__mro__) if isinstance(target, type) else [target]:
        names = vars(sys.modules.get(owner.__module__, builtins))
        for name, annotation in getattr(owner, '__annotations__', {}).items():
            try:
                hints[name] = eval(annotation, names) if isinstance(annotation, str) else annotation
            except Exception:
                hints.pop(name, None)
    return hints


def _type_of(default: Any) -> Any:
    """The type of an argument without annotation, by its default; None if it is not plain."""
    if default is None:
        return Any
    if type(default) in _PLAIN:
        return type(default)
    return Any if _is_plain(default) else None


def _plain(kind: Any) -> Any:
    """The part of a type that a config can hold; None if there is none."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind in (*_PLAIN, Any, None, type(None)) or origin is Literal:
        return type(None) if kind is None else kind
    if origin is Annotated:
        inner = _plain(parts[0])
        return None if inner is None else Annotated[(inner, *parts[1:])]
    if origin in (typing.Union, types.UnionType):
        inner = [part for part in map(_plain, parts) if part is not None]
        if not inner or inner == [type(None)]:
            return None
        return typing.Union[tuple(inner)]  # noqa: UP007
    sequence = origin or kind
    if sequence is tuple:
        inner = [part if part is Ellipsis else _plain(part) for part in parts] or [Any, ...]
        return None if None in inner else tuple[tuple(inner)]
    if sequence in (list, Sequence, Iterable, Collection):
        inner = _plain(parts[0]) if parts else Any
        return None if inner is None else tuple[inner, ...]
    if sequence in (dict, Mapping):
        key, value = (_plain(part) for part in parts or (Any, Any))
        return None if key is None or value is None else dict[key, value]
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or isinstance(value, _PLAIN)


def parse(key: str, kind: Any, text: Any) -> Any:
    """The value that a command-line text stands for, given the key's type; another value is checked."""
    if not isinstance(text, str):
        return checked(key, kind, text)
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
    if kind is Any:
        return _is_plain(value), tuple(value) if isinstance(value, list) else value
    if origin is dict:
        if not isinstance(value, Mapping):
            return False, value
        pairs = [(_fit(parts[0], k), _fit(parts[1], v)) for k, v in value.items()]
        return all(k[0] and v[0] for k, v in pairs), {k[1]: v[1] for k, v in pairs}
    if origin is Annotated:
        fits, value = _fit(parts[0], value)
        return fits and all(value in bound for bound in parts[1:]), value
    if origin in (typing.Union, types.UnionType):
        # A value that is of one of the types stays as it is: 1.0 is no int where a float is allowed.
        for part in sorted(parts, key=lambda part: type(value) is not part):
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
    if origin is dict:
        return f'{{{_words(parts[0])}: {_words(parts[1])}}}'
    if kind is Any:
        return 'a plain value'
    return 'None' if kind in (None, type(None)) else kind.__name__
