"""Tables that map foreign tensors to our parameters, used for both reading and writing.

A table is a tuple of rows. A row applies if all of its parameters are in the model. A parameter or tensor
that no row covers is an error.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import einops
import numpy as np

from vitjax.checkpoints import compare_shapes
from vitjax.errors import UserError
from vitjax.pretrained.files import Tensors

Shapes = Mapping[str, tuple[int, ...]]


class Row(NamedTuple):
    """One foreign tensor, and the parameter of ours that it holds.

    Attributes:
      theirs: name of the foreign tensor; `{i}` is the layer, if only our parameters are stacked over layers.
      ours: '/'-joined path of the parameter; several if theirs holds them one after another along its
        first axis, as one tensor for query, key and value does.
      axes: pattern of `einops.rearrange` from our axes (without that of the layers) to theirs, such as
        'd h k -> (h k) d'. Empty where they are the same.
    """

    theirs: str
    ours: str | tuple[str, ...]
    axes: str = ''

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.ours,) if isinstance(self.ours, str) else self.ours


# What stands in most tables of PyTorch's layouts.
DENSE = 'i o -> o i'
CONVOLUTION = 'h w i o -> o i h w'
SPLIT_HEADS = 'd h k -> (h k) d'  # kernels of query, key and value
SPLIT_HEADS_BIAS = 'h k -> (h k)'
MERGE_HEADS = 'h k d -> d (h k)'  # kernel of the attention's output


def under(table: Iterable[Row], theirs: str, ours: str) -> list[Row]:
    """The rows with something before the foreign names, and before the paths of ours."""
    return [Row(theirs + row.theirs, tuple(ours + x for x in row.paths), row.axes) for row in table]


def renamed(tensors: Tensors, patterns: Iterable[tuple[str, str]]) -> dict[str, np.ndarray]:
    """The tensors with other names: each pattern in turn, and what stands in its place."""
    for pattern, replacement in patterns:
        tensors = {re.sub(pattern, replacement, name): x for name, x in tensors.items()}
    return dict(tensors)


def read_table(
    table: Iterable[Row], tensors: Tensors, shapes: Shapes, place: str
) -> dict[str, np.ndarray]:
    """Foreign tensors -> parameters of ours, float32.

    Args:
      table: the layout's rows.
      tensors: all that the file holds, and nothing that the model does not use.
      shapes: path -> shape of each parameter of the model.
      place: the file, for errors.

    Raises:
      UserError: tensors that are missing, too many, of other shapes, not of floats, or not finite.
    """
    rows = _rows(table, shapes, f'{place} holds')
    expected = {name: shape for row in rows for name, shape in _foreign_shapes(row, shapes).items()}
    compare_shapes(place, {name: x.shape for name, x in tensors.items()}, expected)
    params = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    for row in rows:
        for name, layer in _names(row, shapes):
            theirs = _checked(place, name, tensors[name])
            start = 0
            for path in row.paths:
                ours = params[path] if layer is None else params[path][layer]  # a view
                length = _apply(row.axes, ours.shape)[0] if len(row.paths) > 1 else len(theirs)
                ours[...] = _undo(row.axes, theirs[start : start + length], ours.shape)
                start += length
    return params


def write_table(
    table: Iterable[Row], params: Mapping[str, np.ndarray], layout: str
) -> dict[str, np.ndarray]:
    """Parameters of ours, path -> array, -> foreign tensors.

    Raises:
      UserError: the layout has no name for a parameter.
    """
    params = {path: np.asarray(x) for path, x in params.items()}
    shapes = {path: x.shape for path, x in params.items()}
    tensors = {}
    for row in _rows(table, shapes, f'the layout {layout!r} has'):
        for name, layer in _names(row, shapes):
            parts = [params[path] if layer is None else params[path][layer] for path in row.paths]
            parts = [_rearrange(row.axes, part) for part in parts]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            tensors[name] = np.ascontiguousarray(whole).reshape(whole.shape)
    return tensors


def count_layers(names: Iterable[str], before: str) -> int:
    """How many different layers names such as 'blocks.11.norm1.bias' tell of; `before` is 'blocks.'."""
    found = (re.match(rf'{re.escape(before)}(\d+)', name) for name in names)
    return len({match[1] for match in found if match})


def _rows(table: Iterable[Row], shapes: Shapes, whose: str) -> list[Row]:
    """The rows that apply; together they cover the model."""
    rows = [row for row in table if all(path in shapes for path in row.paths)]
    covered = [path for row in rows for path in row.paths]
    if missing := sorted(shapes.keys() - set(covered)):
        more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
        raise UserError(f'{whose} no tensor for {", ".join(missing[:3])}{more}')
    return rows


def _names(row: Row, shapes: Shapes) -> list[tuple[str, int | None]]:
    """Each foreign name of a row, with its layer or None."""
    if '{i}' not in row.theirs:
        return [(row.theirs, None)]
    depth = shapes[row.paths[0]][0]
    return [(row.theirs.replace('{i}', str(layer)), layer) for layer in range(depth)]


def _foreign_shapes(row: Row, shapes: Shapes) -> Shapes:
    parts = []
    for path in row.paths:
        shape = shapes[path][1:] if '{i}' in row.theirs else shapes[path]
        parts.append(_apply(row.axes, shape))
    whole = parts[0]
    if len(parts) > 1:
        whole = (sum(part[0] for part in parts), *parts[0][1:])
    return {name: whole for name, _ in _names(row, shapes)}


def _checked(place: str, name: str, tensor: np.ndarray) -> np.ndarray:
    try:
        finite = np.isfinite(tensor).all()
    except TypeError:
        finite = None
    if finite is None or np.issubdtype(tensor.dtype, np.integer):
        raise UserError(f'{place}: {name} is {tensor.dtype}, weights are floats')
    if not finite:
        raise UserError(f'{place}: {name} holds values that are not finite')
    return tensor


def _lengths(axes: str, shape: tuple[int, ...]) -> dict[str, int]:
    """Letter -> length of each of our axes."""
    letters = axes.split('->')[0].split()
    return {x: n for x, n in zip(letters, shape, strict=True) if x != '1'}


def _apply(axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The foreign shape of one of our parameters."""
    return _rearrange(axes, np.empty(shape, np.bool_)).shape if axes else tuple(shape)


def _rearrange(axes: str, array: np.ndarray) -> np.ndarray:
    """Rearranges one of our parameters to the axes of the foreign tensor."""
    return einops.rearrange(array, axes) if axes else array


def _undo(axes: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_rearrange`; the shape is of our parameter."""
    if not axes:
        return array
    ours, theirs = axes.split('->')
    return einops.rearrange(array, f'{theirs} -> {ours}', **_lengths(axes, shape))
