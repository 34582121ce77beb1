"""The two splits of an evaluation that learns from one and is measured on the other."""

from typing import Any

from vitjax.errors import UserError


def train_split_of(event: Any, train_split: str | None) -> str:
    """The split to learn from: `train_split`, or if that is None the run's own training split.

    Raises UserError if it is the split that is evaluated: each example would be its own neighbour.
    """
    train_split = event.train_split if train_split is None else train_split
    if train_split == event.split:
        raise UserError(
            f'an evaluation of features cannot learn from the split that it is measured on, '
            f'{event.split!r}; set split or train_split'
        )
    return train_split
