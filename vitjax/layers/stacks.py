"""Which parameters are stacked over layers, as modules declare it.

The parameters of a stack of equal blocks have a leading axis of layers. A module that has such submodules
names them in a class attribute:

    stacked = ('blocks',)

A module that embeds the input of a stack names its submodules and parameters that come before the stack, for
`config.optimizer.layer_decay`; () if there are none. As a property it may depend on the module's fields:

    before_blocks = ('patch_embedding', 'positions')

Both are collected while a model is traced, at any depth of nesting. Nothing is guessed from names.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from flax import linen as nn

from vitjax.errors import UserError

# Part of the key of JAX's trace cache: a cached trace would call no module.
_new_trace = jax.make_user_context()


@dataclasses.dataclass(frozen=True)
class Stacks:
    """Which parameters of a model are stacked over layers, and which come before a stack.

    Attributes:
      paths: of the stacks, '/'-joined ('vit/encoder/blocks'); in nested stacks that of each.
      before: path of a module that declares `before_blocks` -> the names it declares.
    """

    paths: Collection[str] = frozenset()
    before: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def layer_axes(self, name: str) -> int:
        """Number of leading layer axes of a parameter, by its '/'-joined name: 1 in a stack, else 0.

        In a stack of stacks it is 2.
        """
        return sum(_is_inside(name, path) for path in self.paths)

    def state_layer_axes(self, name: str) -> int:
        """As `layer_axes`, for an array of a train state, whose name contains that of its parameter.

        An example is 'opt_state/0/mu/encoder/blocks/mlp/out/kernel'.
        """
        parts = name.split('/')
        return max(self.layer_axes('/'.join(parts[start:])) for start in range(len(parts)))

    def stack_of(self, name: str) -> str | None:
        """Path of the (outermost) stack that contains a parameter; None if no stack does."""
        return min((path for path in self.paths if _is_inside(name, path)), key=len, default=None)

    def owners(self, stack: str) -> list[str]:
        """Paths of the modules that contain a stack and declare what comes before it."""
        return [path for path in self.before if _is_inside(stack, path)]

    def is_before(self, name: str, stack: str) -> bool:
        """Whether a parameter comes before a stack, as one of the modules around both declares."""
        return any(
            _is_inside(name, _join(owner, first))
            for owner in self.owners(stack)
            for first in self.before[owner]
        )


def record_stacks(init: Callable[..., Any], *arguments: Any) -> tuple[Any, Stacks]:
    """Shapes of the variables that `init` returns, and the stacks that the model's modules declare.

    Args:
      init: `model.init`, or a function that calls it and returns its variables.
      arguments: of `init`; arrays or `jax.ShapeDtypeStruct`s.

    Returns:
      The variables as `jax.eval_shape` returns them, and the stacks.

    Raises:
      UserError: a declaration does not fit the parameters.
    """
    declared: dict[tuple[str, str], tuple[nn.Module, tuple[str, ...]]] = {}

    def record(method, args, kwargs, context):
        module = context.module
        # A module that is built and not traced has no path; nor has the wrapper that nn.remat, nn.jit and
        # the like put around a module, which is recorded itself.
        if module.scope is not None and context.method_name != '<lambda>':
            for attribute in ('stacked', 'before_blocks'):
                # The class is asked first: Flax runs `setup` for attributes that an instance lacks.
                names = _names(module, attribute) if hasattr(type(module), attribute) else None
                if names is not None:
                    declared['/'.join(module.path), attribute] = module, names
        return method(*args, **kwargs)

    with nn.intercept_methods(record), _new_trace(object()):
        shapes = jax.eval_shape(lambda *x: init(*x), *arguments)
    return shapes, _checked(declared, shapes.get('params', {}))


def _names(module: nn.Module, attribute: str) -> tuple[str, ...] | None:
    """The names that a module declares in an attribute; None if it declares none."""
    names = getattr(module, attribute)
    # An unrelated attribute of the same name, such as a switch, declares nothing.
    if names is None or isinstance(names, (bool, int, float)):
        return None
    if isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names):
        return tuple(names)
    raise UserError(
        f"{type(module).__name__}.{attribute} must be a tuple of names, such as ('blocks',), not {names!r}"
    )


def _checked(
    declared: Mapping[tuple[str, str], tuple[nn.Module, tuple[str, ...]]], params: Any
) -> Stacks:
    """Builds the stacks from the declarations; raises a UserError where parameters do not fit them."""
    paths: dict[str, tuple[str, Any]] = {}
    before: dict[str, tuple[str, ...]] = {}
    for (path, attribute), (module, names) in declared.items():
        inside = params
        for part in path.split('/') if path else ():
            inside = inside.get(part, {})
        if not inside:  # a module without parameters, or one that `init` uses but does not return
            continue
        kind = type(module).__name__
        for name in names:
            if name not in inside:
                raise UserError(
                    f'{kind}.{attribute} names {name!r}, which is not among its parameters and submodules: '
                    f'{", ".join(inside)}'
                )
        if attribute == 'before_blocks':
            before[path] = names
        else:
            paths |= {_join(path, name): (kind, inside[name]) for name in names}
    stacks = Stacks(frozenset(paths), before)
    for path, (kind, inside) in paths.items():
        axis = stacks.layer_axes(path) - 1  # after those of the stacks around it
        shapes = [leaf.shape for leaf in jax.tree.leaves(inside)]
        if len({shape[axis : axis + 1] for shape in shapes} | {()}) != 2:
            raise UserError(
                f'{kind}.stacked names {path!r}, whose parameters have no common axis of layers: '
                f'their shapes are {", ".join(map(str, sorted(set(shapes))))}'
            )
    return stacks


def _is_inside(name: str, path: str) -> bool:
    return not path or f'{name}/'.startswith(f'{path}/')


def _join(*parts: str) -> str:
    return '/'.join(filter(None, parts))
