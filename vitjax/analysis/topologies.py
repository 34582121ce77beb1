"""Accelerators that a training step can be planned for: what they can do, and their names.

A topology is written as its maker's tools take it, by the shape of its chips (`v5e:4x4`, `v5p:2x2x2`) or
by the name under which it is rented (`v5litepod-16`, `v6e-8`; for v4, v5p and tpu7x the number counts
cores, two a chip: `v5p-8` is four chips).
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence

from vitjax.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do, as its maker states it.

    Attributes:
      flops: bfloat16 operations a second.
      memory: bytes.
      memory_bandwidth: bytes a second.
      interconnect: bytes a second that a chip sends over all its links together.
      shapes: arrangements of chips that are rented.
      devices: of JAX, in a chip.
      cores: in a chip, as names such as v5p-8 count them.
    """

    flops: float
    memory: float
    memory_bandwidth: float
    interconnect: float
    shapes: tuple[str, ...]
    devices: int = 1
    cores: int = 1


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8', '8x8x16')

# FLOPs, memory and its bandwidth: https://docs.cloud.google.com/tpu/docs/ v5e, v5p, v6e and tpu7x; for v4,
# and the bandwidth of tpu7x: https://jax-ml.github.io/scaling-book/tpus/, "TPU Specs". That has the rates
# of the links, too, one way; a chip has four of them in a 2-D torus and six in a 3-D one.
CHIPS = {
    'v4': Chip(275e12, 32 * 2**30, 1.2e12, 6 * 45e9, _CUBES, cores=2),
    'v5e': Chip(197e12, 16 * 2**30, 0.819e12, 4 * 45e9, _FLAT),
    'v5p': Chip(459e12, 95 * 2**30, 2.765e12, 6 * 90e9, _CUBES, cores=2),
    'v6e': Chip(918e12, 32 * 2**30, 1.638e12, 4 * 90e9, _FLAT),
    'tpu7x': Chip(2307e12, 192 * 2**30, 7.4e12, 6 * 90e9, _CUBES, devices=2, cores=2),
}
_ALIASES = {'v5litepod': 'v5e', 'v5lite': 'v5e', 'v7x': 'tpu7x', 'trillium': 'v6e'}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips in a row, a square or a cube, a number of times."""

    kind: str
    shape: str
    slices: int = 1

    def __str__(self):
        times = f'{self.slices} x ' if self.slices > 1 else ''
        return f'{times}{self.kind}:{self.shape}'

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def chips(self) -> int:
        return self.slices * math.prod(map(int, self.shape.split('x')))


def parse_topology(name: str, slices: int = 1) -> Topology:
    """Reads a topology's name.

    >>> str(parse_topology('v5litepod-16')), str(parse_topology('v5p-8', slices=2))
    ('v5e:4x4', '2 x v5p:2x2x1')

    Raises:
      UserError: no such chip or arrangement; it names those there are.
    """
    match = re.fullmatch(r'([a-z0-9]+?)[:-](\d+(?:x\d+)*)', name.strip().lower())
    if not match:
        raise UserError(
            f'topology {name!r} is neither like v5e:4x4 nor like v5litepod-16; '
            f'chips: {", ".join(CHIPS)}'
        )
    kind, size = _ALIASES.get(match[1], match[1]), match[2]
    if kind not in CHIPS:
        raise unknown('chip', kind, CHIPS)
    chip = CHIPS[kind]
    if 'x' not in size:
        by_count = {
            str(chip.cores * math.prod(map(int, shape.split('x')))): shape for shape in chip.shapes
        }
        if size not in by_count:
            names = ', '.join(f'{match[1]}-{count}' for count in by_count)
            raise UserError(f'there is no {name}; there are {names}')
        size = by_count[size]
    sides = sorted(map(int, size.split('x')))
    whole_cubes = len(sides) == 3 and all(side % 4 == 0 for side in sides)
    if size not in chip.shapes and not (whole_cubes and len(chip.shapes[0].split('x')) == 3):
        raise UserError(f'{kind} has no {size}; there are {", ".join(chip.shapes)}')
    if slices < 1:
        raise UserError(f'--num_slices must be at least 1, not {slices}')
    return Topology(kind, size, slices)


def compile_only() -> None:
    """Keeps JAX off the accelerators that are here; call it before JAX looks for devices."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['TPU_SKIP_MDS_QUERY'] = '1'  # else the TPU's library asks the cloud what it runs on
    os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'  # plans do not lock the TPU, nor each other, out
    # That there is no TPU here is no news.
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    os.environ.setdefault('TPU_STDERR_LOG_LEVEL', '3')
    os.environ.setdefault('TPU_MIN_LOG_LEVEL', '3')


def devices(topology: Topology) -> Sequence:
    """The devices of a topology, for which can be compiled but not run.

    Raises:
      UserError: the TPU's compiler is not installed.
    """
    from importlib.util import find_spec

    if find_spec('libtpu') is None:
        raise UserError(
            "planning needs the TPU's compiler; install it: pip install 'vitjax[plan-tpu]'"
        )
    from jax.experimental import topologies

    options = {'num_slices': topology.slices} if topology.slices > 1 else {}
    if topology.kind == 'v4':
        options['chip_config_name'] = 'megacore'  # both cores of a chip as one device, as in use
    if topology.shape == '1x1':
        options['chips_per_host_bounds'] = (1, 1, 1)
    try:
        found = topologies.get_topology_desc(
            platform='tpu', topology_name=f'{topology.kind}:{topology.shape}', **options
        )
    except Exception as error:  # XLA's errors have no common class
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'the compiler refuses {topology}: {reason}') from error
    return found.devices
