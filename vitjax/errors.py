"""Errors that the command line prints as one line, without a traceback."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """A user's mistake: one line that says what is wrong, where, and what to do. Exit code 2."""


class RunError(RuntimeError):
    """A run cannot continue, for example because the disk is full: one line that says why. Exit code 1."""


class Preempted(Exception):
    """A run got SIGTERM, saved a checkpoint from which it can resume, and stopped. Exit code 143."""


class MissingMetadataError(UserError):
    """The checkpoint lacks metadata that is needed to build its model, such as num_heads."""


class CorruptExample(UserError):
    """An example that cannot be read; the message names its file or its index."""


def one_line(error: BaseException | str | None, length: int = 200) -> str:
    """The message of another library's error on one line, cut to a length; its type if it has none.

    Of an error of the operating system it leaves out the path, which messages name themselves.
    """
    message = getattr(error, 'strerror', None) or ' '.join(str(error).split())
    return message[:length] or type(error).__name__


@contextlib.contextmanager
def noting(part: str) -> Iterator[None]:
    """Adds a note to an exception of a user's code: the part of the config in which it was raised."""
    try:
        yield
    except (UserError, RunError, Preempted):
        raise
    except Exception as error:
        error.add_note(f'in {part}')
        raise


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in `known`; suggests similar names.

    Names that contain `name` as a word come before names of similar spelling: 'encoder_depth' for 'depth'.

    >>> str(unknown('model', 'vit_b61', ['vit_b16', 'vit_l16']))
    "unknown model 'vit_b61'; did you mean 'vit_b16'?"
    """
    known = sorted(known)
    lower = {candidate.lower(): candidate for candidate in known}
    near = [candidate for candidate in lower if name.lower() in candidate.split('_')][:3]
    near = near or difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    proposed = ' or '.join(repr(lower[candidate]) for candidate in near)
    hint = f'did you mean {proposed}?' if near else f'known: {", ".join(known)}'
    return UserError(f'unknown {kind} {name!r}; {hint}')
