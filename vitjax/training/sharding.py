"""Where arrays live: one mesh of devices, and a short table that cuts parameters along it.

The mesh has the axes `data` (copies of the model), `fsdp` (parameters and optimizer state cut, each
part with its share of the batch) and `tensor` (heads and MLPs cut). One device is the mesh 1x1x1.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from vitjax.errors import UserError
from vitjax.layers.stacks import Stacks

AXES = ('data', 'fsdp', 'tensor')

# Logical axis -> mesh axes. Layers name activations' axes with `nn.with_logical_constraint`.
AXIS_RULES = (
    ('batch', ('data', 'fsdp')),
    ('length', None),
    ('width', 'fsdp'),
    ('heads', 'tensor'),
    ('mlp', 'tensor'),
    ('vocabulary', 'tensor'),
)

# End of a parameter's path -> its logical axes. What is not listed is cut along its largest axis
# by fsdp alone. Optimizer state mirrors the parameters' names and so is cut as they are.
PARAMETER_AXES = (
    (r'(query|key|value)/kernel', ('width', 'heads', None)),
    (r'(query|key|value)/bias', ('heads', None)),
    (r'(cross_)?attention/out/kernel', ('heads', None, 'width')),
    (r'mlp/(hidden|gate)/kernel', ('width', 'mlp')),
    (r'mlp/(hidden|gate)/bias', ('mlp',)),
    (r'mlp/out/kernel', ('mlp', 'width')),
    (r'(source_)?embedding', ('vocabulary', 'width')),
)
# Smaller arrays than this many elements are copied to all devices: cutting them saves nothing.
_SMALLEST_CUT = 2**12


def make_mesh(
    sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
    """The mesh over all devices of all hosts; a `data` of -1 takes what the other axes leave.

    Several slices of a TPU, which are joined by a slower network, are parts of the axis `data`.
    """
    devices = jax.devices() if devices is None else list(devices)
    fsdp, tensor = sizes['fsdp'], sizes['tensor']
    data = sizes['data'] if sizes['data'] > 0 else max(len(devices) // (fsdp * tensor), 1)
    if data * fsdp * tensor != len(devices):
        raise UserError(
            f'config.mesh: data={data} x fsdp={fsdp} x tensor={tensor} is '
            f'{data * fsdp * tensor} devices, but there are {len(devices)}'
        )
    slices = 1
    if devices[0].platform == 'tpu':  # a GPU's hosts may be called slices, too
        slices = len({getattr(device, 'slice_index', 0) for device in devices})
    if data % slices:
        raise UserError(
            f'config.mesh: data={data} does not divide over {slices} slices; '
            'neither fsdp nor tensor may reach over them'
        )
    # An axis may take part of a dimension of a TPU's torus: 4x4 chips are also 8 x 2.
    options = {'devices': devices, 'allow_split_physical_axes': True}
    if slices == 1:
        grid = mesh_utils.create_device_mesh((data, fsdp, tensor), **options)
    else:
        grid = mesh_utils.create_hybrid_device_mesh(
            (data // slices, fsdp, tensor), (slices, 1, 1), **options
        )
    # Linen's modules need Auto axes, which are not the default everywhere.
    return jax.sharding.Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_parts(mesh: jax.sharding.Mesh) -> int:
    """Into how many parts a batch is cut."""
    return mesh.shape['data'] * mesh.shape['fsdp']


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Of arrays whose first axis is the batch."""
    return NamedSharding(mesh, P(('data', 'fsdp')))


def tree_shardings(tree: Any, mesh: jax.sharding.Mesh, stacks: Stacks) -> Any:
    """A NamedSharding for every array (or ShapeDtypeStruct) of a tree of parameters or a train state.

    `stacks` says which of the parameters have a leading axis of layers, which is never cut.
    """

    def sharding(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        layers = stacks.state_layer_axes(name)
        return NamedSharding(mesh, _partition(name, leaf.shape, mesh, layers))

    return jax.tree.map_with_path(sharding, tree)


def _partition(name: str, shape: tuple[int, ...], mesh: jax.sharding.Mesh, layers: int) -> P:
    """The partition of one array whose first `layers` axes are axes of layers.

    Where the axis of a rule does not divide by fsdp, the largest other that does is cut.
    """
    if math.prod(shape) < _SMALLEST_CUT:
        return P()
    rules = dict(AXIS_RULES)
    for pattern, axes in PARAMETER_AXES:
        if re.search(f'(^|/){pattern}$', name) and len(axes) == len(shape) - layers:
            cut = [None] * layers + [rules.get(axis) for axis in axes]
            break
    else:
        cut = [None] * len(shape)
        axes = ('width',)
    cut = [
        axis if axis and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(cut, shape, strict=True)
    ]
    # A width of 1664 does not divide by 256; an MLP's hidden width then may.
    if 'width' in axes and 'fsdp' not in cut:
        left = [i for i in range(layers, len(shape)) if not cut[i]]
        divisible = [i for i in left if shape[i] % mesh.shape['fsdp'] == 0]
        if divisible:
            cut[max(divisible, key=lambda i: shape[i])] = 'fsdp'
    return P(*cut)


def to_devices(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Global arrays from each host's part of a batch."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Of arrays that every device holds whole."""
    return NamedSharding(mesh, P())


@contextlib.contextmanager
def context(mesh: jax.sharding.Mesh, matmul_precision: str = 'default') -> Iterator[None]:
    """Context in which steps are traced and run: mesh, rules of logical axes, matmul precision."""
    with (
        jax.set_mesh(mesh),
        nn.logical_axis_rules(AXIS_RULES),
        jax.default_matmul_precision(matmul_precision),
    ):
        yield
