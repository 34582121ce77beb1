"""The one error that a user's mistake raises: the command line prints it as one line, exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can put right: says what is wrong, where, and what to do, in one line."""


class CorruptExample(UserError):
    """An example that cannot be read; the message names its file or its index."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in `known`; proposes the nearest names that are.

    >>> str(unknown('model', 'vit_b61', ['vit_b16', 'vit_l16']))
    "unknown model 'vit_b61'; did you mean 'vit_b16'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f'did you mean {near[0]!r}?' if near else f'known: {", ".join(known)}'
    return UserError(f'unknown {kind} {name!r}; {hint}')
