"""The check of arguments that choose among a few names."""

from collections.abc import Iterable

from vitjax.errors import unknown


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raises a UserError that names the nearest choices, or all, unless the value is one of them."""
    if value not in choices:
        raise unknown(name, str(value), choices)
