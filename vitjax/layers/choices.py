"""Words that choose how a layer works."""

from collections.abc import Iterable


def check_choice(name: str, word: str, known: Iterable[str]) -> None:
    """ValueError that names the known words, unless the word is one of them."""
    if word not in known:
        raise ValueError(f"{name} '{word}' is none of {', '.join(known)}")
