"""What is stacked over layers, as modules declare it.

The parameters of a stack of equal blocks have a leading axis of layers. A module that has such submodules
says so by a class attribute

    stacked = ('blocks',)

with their names. A model whose embeddings come before a stack, so that layer-wise learning rates reach them
last, names them in `before_blocks`, names of its submodules and parameters. Both are collected while
a model is traced, at any depth of nesting: nothing is guessed from names.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import linen as nn


@dataclasses.dataclass
class Stacks:
    """Which parameters of a model are stacked, by the paths of modules ('vit/encoder/blocks').

    Attributes:
      paths: of what has a leading axis of layers.
      before: of what comes before the blocks: owner's path -> names of its submodules and parameters.
    """

    paths: set[str] = dataclasses.field(default_factory=set)
    before: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def stack_of(self, name: str) -> str | None:
        """The path of the stack that a parameter is in, by its '/'-joined name; None for none.

        The name may also be that of an array of the optimizer's state, which ends as the parameter's does.
        """
        for path in self.paths:
            if f'/{path}/' in f'/{name}':
                return path
        return None

    def is_stacked(self, name: str) -> bool:
        """Whether a parameter has a leading axis of layers."""
        return self.stack_of(name) is not None

    def is_before(self, name: str, stack: str) -> bool:
        """Whether a parameter comes before the blocks of a stack, as the innermost owner declares it."""
        owners = [path for path in self.before if not path or f'{stack}/'.startswith(f'{path}/')]
        if not owners:
            return False
        owner = max(owners, key=len)
        inner = name.removeprefix(f'{owner}/') if owner else name
        is_inside = not owner or name.startswith(f'{owner}/')
        return is_inside and inner.partition('/')[0] in self.before[owner]


def record_stacks(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Stacks]:
    """Calls a function that traces `init` or `apply` of a model; its result, and the model's stacks."""
    stacks = Stacks()

    def record(method, args, kwargs, context):
        module = context.module
        if module.scope is None:  # it is built, not traced
            return method(*args, **kwargs)
        path = '/'.join(module.path)
        for name in getattr(module, 'stacked', ()):
            stacks.paths.add(f'{path}/{name}' if path else name)
        if before := getattr(module, 'before_blocks', ()):
            stacks.before[path] = tuple(before)
        return method(*args, **kwargs)

    with nn.intercept_methods(record):
        return function(*arguments), stacks
