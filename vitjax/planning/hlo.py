"""Collective and memory traffic of a compiled program, read from its HLO text.

XLA's own cost analysis counts the body of a loop once. Here it is counted as often as it runs: by the trip
count that XLA annotates, or by the loop's condition `i < constant`.
"""

import collections
import functools
import math
import re
from collections.abc import Iterator

from vitjax.planning.collectives import COLLECTIVES, groups, share, share_beyond
from vitjax.planning.hlo_text import Array, Instruction, first_group, parse

# Opcodes that run other computations. `call-start` runs one on a TPU's SparseCore.
_CALLS = {'while', 'conditional', 'call', 'async-start', 'call-start'}
# Opcodes without memory traffic of their own.
_FREE = _CALLS | {
    *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all'),
    *('partition-id', 'replica-id', 'opt-barrier', 'iota', 'copy-done'),
}
_SLICES = ('dynamic-slice', 'slice', 'gather')


class Program:
    """A compiled program.

    Args:
      text: HLO of one device, as `Compiled.as_text()` returns it.

    Attributes:
      computations: name -> instruction name -> instruction.
      unknown_loops: names of the loops with an unknown trip count; they are counted once.
    """

    def __init__(self, text: str):
        self.computations, self._entry = parse(text)
        self.unknown_loops: list[str] = []
        counts = re.findall(r'(?:num_partitions|replica_count)=(\d+)', text)
        self._devices = math.prod(map(int, counts))

    @functools.cached_property
    def executions(self) -> dict[str, int]:
        """Computation -> number of runs, without fused computations; every branch of a conditional counts."""
        times: collections.Counter[str] = collections.Counter()

        def visit(name: str, count: int) -> None:
            times[name] += count
            for instruction in self.computations[name].values():
                if instruction.opcode in _CALLS:
                    runs = self._trip_count(instruction) if instruction.opcode == 'while' else 1
                    for called in instruction.called:
                        visit(called, count * runs)

        visit(self._entry, 1)
        return dict(times)

    def collective_bytes(self) -> dict[str, int]:
        """Collective -> bytes that a device sends in one run of the program.

        Counted for ring algorithms. In a group of g devices, a device whose input has n bytes sends
        (g - 1) n in an all-gather, (g - 1) n / g in a reduce-scatter or all-to-all, twice that in an
        all-reduce, and n in a collective-permute. Traffic between slices of TPUs is not included.
        """
        sent: collections.Counter[str] = collections.Counter()
        for kind, size, _ in self._collectives():
            sent[kind] += round(size)
        return {kind: sent[kind] for kind in COLLECTIVES if sent[kind]}

    def network_bytes(self, island: int) -> int:
        """Bytes that a device sends to other islands in one run, for ring algorithms.

        Args:
          island: number of devices of a slice of TPUs or a machine of GPUs; a slower network connects the
            islands.
        """
        total = 0.0
        for kind, size, attributes in self._collectives():
            total += size * share_beyond(kind, attributes, self._devices, island)
        # TPUs reduce within a slice first, and then send between slices through their hosts.
        for name, times in self.executions.items():
            for instruction in self.computations[name].values():
                if instruction.opcode != 'send':
                    continue
                transfer = re.search(r'_megascale_transfer_type="(\w+)"', instruction.attributes)
                if transfer:
                    kind = transfer[1].lower().replace('_', '-')
                    slices = first_group(r'_megascale_target="\{([^}]*)\}', instruction.attributes)
                    count = slices.count(',') + 1
                    total += times * instruction.arrays[0].bytes * share(kind, count)
        return round(total)

    def _collectives(self) -> Iterator[tuple[str, float, str]]:
        """Kind, bytes that a device sends in all runs, and attributes of each collective."""
        for name, times in self.executions.items():
            # The parts of an asynchronous collective are in several fusions and have one channel id.
            seen: set[tuple[str, str]] = set()
            for inside, instruction in self._with_fusions(name):
                kind = instruction.kind
                channel = re.search(r'channel_id=(\d+)', instruction.attributes)
                if not kind or (channel and (kind, channel[1]) in seen):
                    continue
                seen.add((kind, channel[1] if channel else instruction.name))
                if inside.startswith('all-reduce-scatter'):
                    kind = 'reduce-scatter'
                size = sum(a.bytes for a in self._operand_arrays(inside, instruction))
                group = groups(instruction.attributes, self._devices).shape[1]
                yield kind, times * size * share(kind, group), instruction.attributes

    def memory_bytes(self) -> int:
        """Bytes that a device reads from and writes to its main memory in one run.

        Each instruction or fusion reads its operands and writes its results; of the operand of a slice,
        only the slice is read. Arrays in faster memory (a TPU's VMEM) are not counted.
        """
        return sum(
            times * self._traffic(name, instruction)
            for name, times in self.executions.items()
            for instruction in self.computations[name].values()
        )

    def _with_fusions(self, name: str) -> Iterator[tuple[str, Instruction]]:
        """Computation and instruction, for each instruction of a computation and of its fusions."""
        for instruction in self.computations[name].values():
            yield name, instruction
            if instruction.opcode == 'fusion':
                for called in instruction.called:
                    yield from self._with_fusions(called)

    def _trip_count(self, loop: Instruction) -> int:
        """Trip count of a loop: as XLA annotates it, or from a counter that grows from 0 to a constant."""
        if known := re.search(r'known_trip_count[":{\s]+n[":\s]+(\d+)', loop.attributes):
            return int(known[1])
        condition = first_group(r'condition=%?([\w.-]+)', loop.attributes)
        inside = {i.name: i for _, i in self._with_fusions(condition)}
        compared = [i for i in inside.values() if i.opcode == 'compare']
        limits = [i.count for i in inside.values() if i.opcode == 'constant']
        counters = [i for i in inside.values() if i.opcode == 'get-tuple-element']
        if [len(compared), len(limits), len(counters)] == [1, 1, 1] and limits[0] is not None:
            position = int(first_group(r'index=(\d+)', counters[0].attributes))
            step = self._step(self.computations[loop.called[0]], position)
            if step and 'direction=LT' in compared[0].attributes:
                return math.ceil(limits[0] / step)
        self.unknown_loops.append(loop.name)
        return 1

    def _step(self, body: dict[str, Instruction], position: int) -> int | None:
        """The constant that a loop's body adds to its counter, the element `position` of the state."""
        root = next(instruction for instruction in body.values() if instruction.is_root)
        if root.opcode != 'tuple':
            return None
        added = _through(body, root.operands[position], ('copy', 'bitcast'))
        if added.opcode == 'fusion':
            body = self.computations[added.called[0]]
            added = next(instruction for instruction in body.values() if instruction.is_root)
        steps = [body[operand] for operand in added.operands if body[operand].opcode == 'constant']
        return steps[0].count if added.opcode == 'add' and len(steps) == 1 else None

    def _operand_arrays(self, name: str, instruction: Instruction) -> list[Array]:
        known = self.computations[name]
        return [array for operand in instruction.operands for array in known[operand].arrays]

    def _traffic(self, name: str, instruction: Instruction) -> int:
        if instruction.opcode in _FREE or instruction.opcode.endswith(('-done', '-update')):
            return 0
        if instruction.opcode == 'custom-call' and 'AllocateBuffer' in instruction.attributes:
            return 0
        if instruction.opcode in _SLICES:
            return 2 * _in_memory(instruction.arrays)
        if instruction.opcode.removesuffix('-start') in _SLICES:
            result = instruction.arrays[1]  # the operand comes first
            return result.bytes + _in_memory((result,))
        known = self.computations[name]
        if instruction.opcode == 'dynamic-update-slice':
            return 2 * _in_memory(known[instruction.operands[1]].arrays)
        operands = [known[operand] for operand in instruction.operands]
        if instruction.opcode == 'fusion':
            return self._fusion_traffic(instruction, operands)
        results = instruction.arrays
        if instruction.opcode.endswith('-start'):
            results = results[:1]  # the others are the operand and the state
        elif '"__cublas' in instruction.attributes and len(results) > 1:
            results = results[:-1]  # the last is workspace
        return _in_memory(results) + sum(_in_memory(operand.arrays) for operand in operands)

    def _fusion_traffic(self, fusion: Instruction, operands: list[Instruction]) -> int:
        name = fusion.called[0]
        total = 0
        for position, operand in enumerate(operands):
            if whole := _in_memory(operand.arrays):
                total += self._read(name, self._parameter(name, position), whole)
        inside = self.computations[name]
        root = next(instruction for instruction in inside.values() if instruction.is_root)
        results = root.operands if root.opcode == 'tuple' else (root.name,)
        for result, array in zip(results, fusion.arrays, strict=False):
            if array.in_memory:
                total += self._written(name, result, array.bytes)
        return total

    def _parameter(self, name: str, position: int) -> str:
        """The name of a parameter of a fused computation."""
        return next(
            instruction.name
            for instruction in self.computations[name].values()
            if instruction.opcode == 'parameter' and instruction.count == position
        )

    def _read(self, name: str, value: str, whole: int) -> int:
        """Bytes that a fused computation reads of the array `value`, which has `whole` bytes."""
        total = 0
        for user in self.computations[name].values():
            for position, operand in enumerate(user.operands):
                if operand != value:
                    continue
                if user.opcode in _SLICES and position == 0:
                    total += sum(array.bytes for array in user.arrays)
                elif user.opcode == 'bitcast':
                    total += self._read(name, user.name, whole)
                elif user.opcode == 'fusion':
                    called = user.called[0]
                    total += self._read(called, self._parameter(called, position), whole)
                elif user.opcode != 'dynamic-update-slice' or position > 0:
                    return whole
        return min(total, whole)

    def _written(self, name: str, value: str, whole: int) -> int:
        """Bytes that a fused computation writes of its result `value`, which has `whole` bytes."""
        inside = self.computations[name]
        result = _through(inside, value, ('bitcast',))
        if result.opcode == 'parameter':
            return 0
        if result.opcode == 'dynamic-update-slice':
            return sum(array.bytes for array in inside[result.operands[1]].arrays)
        if result.opcode == 'fusion' and len(result.arrays) == 1:
            called = result.called[0]
            root = next(i for i in self.computations[called].values() if i.is_root)
            return self._written(called, root.name, whole)
        return whole


def _in_memory(arrays: tuple[Array, ...]) -> int:
    return sum(array.bytes for array in arrays if array.in_memory)


def _through(inside: dict[str, Instruction], name: str, opcodes: tuple[str, ...]) -> Instruction:
    """The instruction with a name; if it has one of the opcodes, the instruction that it copies or views."""
    while inside[name].opcode in opcodes:
        name = inside[name].operands[0]
    return inside[name]
