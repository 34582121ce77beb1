"""Accelerators that a train step can be planned for: names, and specifications.

A topology of TPUs is written as a chip and a shape (`v5e:4x4`, `v5p:2x2x2`), or as Google Cloud's accelerator
type (`v5litepod-16`, `v6e-8`; for v4, v5p and tpu7x the number counts cores, two a chip, so `v5p-8` has four
chips). GPUs are written as type and number in a machine: `h100x8`.
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from vitjax.errors import UserError, one_line, unknown


@dataclasses.dataclass(frozen=True)
class Chip:
    """Specification of a chip, as published by its maker.

    Attributes:
      flops: bfloat16 operations a second.
      memory: bytes available to a program.
      memory_bandwidth: bytes a second.
      link: bytes a second that a TPU sends to one neighbour, or a GPU over all of NVLink.
      network: bytes a second that a chip sends to other slices or machines.
      shapes: shapes of chips that can be rented.
      devices: number of JAX devices of a chip.
      cores: number of cores of a chip, as names such as v5p-8 count them.
      target: description of a GPU for the compiler; None for a TPU.
    """

    flops: float
    memory: float
    memory_bandwidth: float
    link: float
    network: float
    shapes: tuple[str, ...]
    devices: int = 1
    cores: int = 1
    target: dict[str, Any] | None = None


def _gpu(capability: int, cores: int, lanes: int, clock: float, cache: int, shared: int) -> dict:
    """Description of a GPU for the compiler, with the field names of XLA's GpuDeviceInfoProto."""
    return {
        'cuda_compute_capability': {'major': capability},
        'core_count': cores,
        'fpus_per_core': lanes,
        'clock_rate_ghz': clock,
        'l2_cache_size': cache,
        'shared_memory_per_block': 48 * 2**10,
        'shared_memory_per_block_optin': shared - 2**10,
        'shared_memory_per_core': shared,
        'registers_per_block_limit': 2**16,
        'registers_per_core_limit': 2**16,
        'threads_per_block_limit': 1024,
        'threads_per_core_limit': 2048,
        'threads_per_warp': 32,
        'block_dim_limit_x': 2**31 - 1,
        'block_dim_limit_y': 2**16 - 1,
        'block_dim_limit_z': 2**16 - 1,
    }


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8', '8x8x16')

# Memory: the limit in the out-of-memory errors of libtpu 0.0.42.1, which reserves a part for itself.
# FLOPs and memory bandwidth: https://docs.cloud.google.com/tpu/docs/ v5e, v5p, v6e and tpu7x; for v4,
# and the memory bandwidth of tpu7x: https://jax-ml.github.io/scaling-book/tpus/, "TPU Specs", which also has
# the one-way rates of the links. Slices are connected by the data centre network: 25 Gb/s a chip of v5e, 50
# of v5p (also assumed for v4), 100 of v6e and tpu7x.
CHIPS = {
    'v4': Chip(275e12, 30.75 * 2**30, 1.2e12, 45e9, 6.25e9, _CUBES, cores=2),
    'v5e': Chip(197e12, 15.75 * 2**30, 0.819e12, 45e9, 3.125e9, _FLAT),
    'v5p': Chip(459e12, 95.74 * 2**30, 2.765e12, 90e9, 6.25e9, _CUBES, cores=2),
    'v6e': Chip(918e12, 31.25 * 2**30, 1.638e12, 90e9, 12.5e9, _FLAT),
    'tpu7x': Chip(2307e12, 2 * 94.75 * 2**30, 7.4e12, 90e9, 12.5e9, _CUBES, devices=2, cores=2),
}

_MACHINE = ('1', '2', '4', '8')
_A100 = _gpu(8, 108, 64, 1.41, 40 * 2**20, 164 * 2**10)
_H100 = _gpu(9, 132, 128, 1.98, 50 * 2**20, 228 * 2**10)
_B200 = _gpu(10, 148, 128, 1.965, 132644864, 228 * 2**10)

# NVIDIA's data sheets of the SXM modules (https://www.nvidia.com/en-us/data-center/ a100, h100, h200, hgx):
# bfloat16 without sparsity, memory and its bandwidth, and half of NVLink's rate, which counts both
# directions.
# Between machines: one network card a GPU, with 200 Gb/s in a DGX A100 and 400 Gb/s in later ones.
# Descriptions for the compiler, and the memory of A100, H100 and B200 in bytes, are those in XLA
# (xla/backends/gpu/target_config/specs).
CHIPS |= {
    'a100': Chip(312e12, 85100068864, 2.039e12, 300e9, 25e9, _MACHINE, target=_A100),
    'h100': Chip(989e12, 84942979072, 3.35e12, 450e9, 50e9, _MACHINE, target=_H100),
    'h200': Chip(989e12, 141e9, 4.8e12, 450e9, 50e9, _MACHINE, target=_H100),
    'b200': Chip(2250e12, 191514411008, 8e12, 900e9, 50e9, _MACHINE, target=_B200),
}
_ALIASES = {'v5litepod': 'v5e', 'v5lite': 'v5e', 'v7x': 'tpu7x', 'trillium': 'v6e'}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A kind of chip, the shape of a slice such as '4x4' (or GPUs of a machine), and the number of slices."""

    kind: str
    shape: str
    slices: int = 1

    def __str__(self):
        times = f'{self.slices} x ' if self.slices > 1 else ''
        return f'{times}{self.kind}{"x" if self.chip.target else ":"}{self.shape}'

    @property
    def chip(self) -> Chip:
        return CHIPS[self.kind]

    @property
    def device_memory(self) -> float:
        """Bytes of memory of a JAX device."""
        return self.chip.memory / self.chip.devices

    @property
    def chips(self) -> int:
        return self.slices * math.prod(_sides(self.shape))

    @property
    def interconnect(self) -> float:
        """Bytes a second that a chip sends within its slice over all its links, on average.

        The sides of a slice are rings if the slice consists of cubes of 4x4x4, or if a flat slice spans the
        whole side of 16 of a pod; otherwise chips at the ends of a side have one neighbour less.
        """
        if self.chip.target:
            return self.chip.link
        sides = _sides(self.shape)
        cubes = _whole_cubes(sides)
        links = sum(2 if cubes or side == 16 else 2 * (side - 1) / side for side in sides)
        return links * self.chip.link

    @property
    def devices_a_slice(self) -> int:
        return self.chips * self.chip.devices // self.slices


def _sides(shape: str) -> tuple[int, ...]:
    return tuple(map(int, shape.split('x')))


def _whole_cubes(sides: tuple[int, ...]) -> bool:
    """Whether a slice consists of cubes of 4x4x4."""
    return len(sides) == 3 and all(side % 4 == 0 for side in sides)


def parse_topology(name: str, slices: int = 1) -> Topology:
    """Parses the name of a topology.

    >>> str(parse_topology('v5litepod-16')), str(parse_topology('v5p-8', slices=2))
    ('v5e:4x4', '2 x v5p:2x2x1')
    >>> str(parse_topology('H100x8'))
    'h100x8'

    Raises:
      UserError: unknown chip or shape; the message lists the known ones.
    """
    match = re.fullmatch(r'([a-z0-9]+?)[:x-](\d+(?:x\d+)*)', name.strip().lower())
    if not match:
        raise UserError(
            f'topology {name!r} is not like v5e:4x4, v5litepod-16 or h100x8; '
            f'chips: {", ".join(CHIPS)}'
        )
    kind, size = _ALIASES.get(match[1], match[1]), match[2]
    if kind not in CHIPS:
        raise unknown('chip', kind, CHIPS)
    chip = CHIPS[kind]
    if chip.target:
        if size not in chip.shapes:
            machines = ', '.join(f'{kind}x{count}' for count in chip.shapes)
            raise UserError(
                f'there is no {name}; there are {machines}, and --num_slices of such machines'
            )
    elif 'x' not in size:
        by_count = {str(chip.cores * math.prod(_sides(shape))): shape for shape in chip.shapes}
        if size not in by_count:
            names = ', '.join(f'{match[1]}-{n} ({shape})' for n, shape in by_count.items())
            raise UserError(f'there is no {name}; there are {names}')
        size = by_count[size]
    cubes = _whole_cubes(_sides(size)) and len(_sides(chip.shapes[0])) == 3
    if size not in chip.shapes and not cubes:
        raise UserError(f'{kind} has no {size}; there are {", ".join(chip.shapes)}')
    if slices < 1:
        raise UserError(f'--num_slices must be at least 1, not {slices}')
    return Topology(kind, size, slices)


def compile_only() -> None:
    """Keeps JAX from using attached accelerators; call it before JAX initialises its backends."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['TPU_SKIP_MDS_QUERY'] = '1'  # libtpu must not query the metadata server
    os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = (
        '1'  # several plans, or a plan and a run, at the same time
    )
    # Triton's matrix products need a GPU for autotuning.
    flags = os.environ.get('XLA_FLAGS', '')
    os.environ['XLA_FLAGS'] = f'{flags} --xla_gpu_enable_triton_gemm=false'.strip()
    # Silences warnings about the missing TPU and GPU driver.
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    os.environ.setdefault(
        'TPU_ACCELERATOR_TYPE', 'v5litepod-4'
    )  # the host has no TPU that would set it
    os.environ.setdefault('TPU_STDERR_LOG_LEVEL', '3')
    os.environ.setdefault('TPU_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')


def devices(topology: Topology) -> Sequence:
    """Devices of a topology, for compilation only.

    Raises:
      UserError: the compiler is not installed, or rejects the topology.
    """
    gpu = topology.chip.target is not None
    modules = ('jax_cuda12_plugin', 'jax_cuda13_plugin') if gpu else ('libtpu',)
    if not any(find_spec(module) for module in modules):
        kind = 'gpu' if gpu else 'tpu'
        raise UserError(
            f"planning needs the {kind.upper()}'s compiler; "
            f"install it: pip install 'vitjax[plan-{kind}]'"
        )
    from jax.experimental import topologies

    options = _gpu_options(topology) if gpu else _tpu_options(topology)
    try:
        return topologies.get_topology_desc(**options).devices
    except Exception as error:  # XLA's errors have no common class
        raise UserError(f'the compiler refuses {topology}: {one_line(error)}') from error


def _tpu_options(topology: Topology) -> dict:
    options: dict[str, Any] = {
        'platform': 'tpu',
        'topology_name': f'{topology.kind}:{topology.shape}',
    }
    if topology.slices > 1:
        options['num_slices'] = topology.slices
    if topology.kind == 'v4':
        options['chip_config_name'] = 'megacore'  # both cores of a chip are one device
    if topology.shape == '1x1':
        options['chips_per_host_bounds'] = (1, 1, 1)
    return options


def _gpu_options(topology: Topology) -> dict:
    chip = topology.chip
    info = (chip.target or {}) | {
        'memory_bandwidth': int(chip.memory_bandwidth),
        'device_memory_size': int(chip.memory),
    }
    description = {
        'gpu_device_info': info,
        'platform_name': '"CUDA"',
        'dnn_version_info': {'major': 9, 'minor': 10},
        'device_description_str': f'"{topology.kind}"',
    }
    return {
        'platform': 'cuda',
        'topology_name': topology.kind,
        'target_config': _text_proto(description),
        'topology': f'{topology.slices}x1x{topology.shape}',  # machines, hosts of each, GPUs of each
    }


def _text_proto(fields: dict) -> str:
    """A message in the text format of protocol buffers."""
    return ' '.join(
        f'{name} {{ {_text_proto(value)} }}' if isinstance(value, dict) else f'{name}: {value}'
        for name, value in fields.items()
    )
