"""Memory, FLOPs, traffic and time of a train step on hardware that is not attached.

The step is compiled as for training. Its time is a roofline estimate (Williams et al. 2009): the longest of
the times of matrix products, memory traffic, collectives and the network between slices or machines, each
at its specified peak rate, as if all of them overlapped fully and all links were busy. Measured steps are
slower.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

from vitjax.planning.flops import count_jaxpr
from vitjax.planning.hlo import Program
from vitjax.planning.topologies import Topology

# Precision -> number of bfloat16 matrix products that a float32 product is made of.
_PASSES = {'default': 1, 'high': 3, 'highest': 6}
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cost of one train step.

    Attributes:
      flops: of matrix products and convolutions, on all devices together.
      needed, limit: bytes of a device's memory that the step needs, and that are available.
      memory: `needed` by purpose; empty if the compiler refused a step that does not fit.
      collectives: kind -> bytes that a device sends, without those between slices of TPUs.
      network: bytes that a device sends to other slices of TPUs, or other machines of GPUs.
      memory_traffic: bytes that a device reads and writes.
      seconds: resource -> time at its peak rate.
      unknown_loops: names of loops with an unknown trip count; they are counted once.
    """

    flops: int
    needed: int
    limit: int
    memory: dict[str, int] = dataclasses.field(default_factory=dict)
    collectives: dict[str, int] = dataclasses.field(default_factory=dict)
    network: int = 0
    memory_traffic: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    unknown_loops: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.needed <= self.limit

    @property
    def bound(self) -> str | None:
        """The resource that takes longest."""
        return max(self.seconds, key=self.seconds.__getitem__) if self.seconds else None

    @property
    def step_time(self) -> float | None:
        """Estimated seconds of a step."""
        return max(self.seconds.values(), default=None)


def plan_step(experiment: Any, topology: Topology) -> Plan:
    """Compiles the train step of an `Experiment` whose mesh has the devices of a topology.

    For a step that does not fit into memory it returns a plan whose `fits` is False.
    """
    step = experiment.train_step()
    arguments = (experiment.abstract_state, experiment.abstract_batch())
    with experiment.context():
        traced = step.trace(*arguments)
        flops = count_jaxpr(traced.jaxpr.jaxpr)
        lowered = traced.lower()
        try:
            compiled = lowered.compile()
        except Exception as error:  # XLA's errors have no common class
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            return Plan(flops, *used_and_limit(str(error)))
    stats = compiled.memory_analysis()
    memory = {
        'arguments': stats.argument_size_in_bytes,
        'temporaries': stats.temp_size_in_bytes,
        # The old state is donated, so the new one uses its memory.
        'output': stats.output_size_in_bytes - stats.alias_size_in_bytes,
        'program': stats.generated_code_size_in_bytes,
    }
    needed, limit = sum(memory.values()), int(topology.device_memory)
    if needed > limit:  # compilers for GPUs and for several slices do not check it
        return Plan(flops, needed, limit, memory)
    program = Program(compiled.as_text())
    passes = 1 if experiment.compute == 'bfloat16' else _PASSES[experiment.matmul]
    collectives, traffic = program.collective_bytes(), program.memory_bytes()
    network = program.network_bytes(topology.devices_a_slice) if topology.slices > 1 else 0
    # GPUs send to other machines within their collectives.
    inside = sum(collectives.values()) - (network if topology.chip.target else 0)
    return Plan(
        flops=flops,
        needed=needed,
        limit=limit,
        memory=memory,
        collectives=collectives,
        network=network,
        memory_traffic=traffic,
        seconds=roofline(topology, passes * flops, traffic, inside, network),
        unknown_loops=tuple(program.unknown_loops),
    )


def roofline(
    topology: Topology, flops: float, memory: float, sent: float, network: float = 0
) -> dict[str, float]:
    """Resource -> seconds at its peak rate.

    Args:
      topology: the chips.
      flops: bfloat16 operations of all devices together.
      memory: bytes that a device reads and writes.
      sent: bytes that a device sends within its slice or machine.
      network: bytes that a device sends to other slices or machines.
    """
    chip = topology.chip
    seconds = {
        'compute': flops / topology.chips / chip.flops,
        'memory': memory * chip.devices / chip.memory_bandwidth,
        # A single chip has no links and sends nothing.
        'interconnect': sent and sent * chip.devices / topology.interconnect,
    }
    if topology.slices > 1:
        seconds['network'] = network * chip.devices / chip.network
    return seconds


def used_and_limit(message: str) -> tuple[int, int]:
    """Reads the needed and the available bytes from an out-of-memory error of the compiler.

    >>> used_and_limit('Ran out of memory in memory space hbm. Used 26.5G of 15.75G hbm.')
    (28454158336, 16911433728)
    """
    # Used 26.5G of 15.75G; or, if the temporaries alone do not fit: (49.85G) exceeds available HBM (15.75G)
    size, between = r'([\d.]+)([KMG]?)', r'(?: of |\) exceeds available \w+ \()'
    match = re.search(f'{size}{between}{size}', message)
    if not match:
        raise RuntimeError(message)
    numbers, units = match.groups()[::2], match.groups()[1::2]
    used, limit = (float(n) * _UNITS[unit] for n, unit in zip(numbers, units, strict=True))
    return int(used), int(limit)


def meshes(devices: int, slices: int = 1) -> Iterator[dict[str, int]]:
    """Meshes that a search tries: data parallelism, FSDP over a slice, and mixtures, with tensor 1 and 2."""
    in_slice = devices // slices
    for tensor in (1, 2):
        sizes = {1, in_slice // tensor, 2 ** (int(math.log2(in_slice)) // 2)}
        for fsdp in sorted(size for size in sizes if size and in_slice % (size * tensor) == 0):
            yield {'data': devices // (fsdp * tensor), 'fsdp': fsdp, 'tensor': tensor}
