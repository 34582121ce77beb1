"""Parsing of HLO text, as XLA prints compiled programs."""

import dataclasses
import math
import re

from vitjax.planning.collectives import COLLECTIVES

_ARRAY = re.compile(r'\b([a-z]+\d*\w*)\[([\d,<=]*)\](\{[^}]*\})?')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$')
_CALLED = re.compile(r'(?:calls|to_apply|body|\w+_computations?)=(\{[^}]*\}|%?[\w.-]+)')


@dataclasses.dataclass(frozen=True)
class Array:
    """Size of an array in bytes, and whether it is in the device's main memory."""

    bytes: int
    in_memory: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation: `%name = arrays opcode(operands), attributes`."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def kind(self) -> str | None:
        """The collective that this instruction is or starts; None for other instructions."""
        kind = self.opcode.removesuffix('-start')
        return kind if kind in COLLECTIVES else None

    @property
    def count(self) -> int | None:
        """The value of an integer constant, or the position of a parameter; None for others."""
        return int(self.attributes) if self.attributes.isdecimal() else None

    @property
    def called(self) -> list[str]:
        """Names of the computations that are called, except the condition of a loop."""
        groups = _CALLED.findall(self.attributes)
        return [name for group in groups for name in re.findall(r'[\w.-]+', group)]


def parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
    """Parses a program.

    Returns:
      Computation name -> instruction name -> instruction, and the name of the entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    entry = ''
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            current = computations.setdefault(match[2], {})
            entry = match[2] if match[1] else entry
        elif match := _INSTRUCTION.match(line):
            root, name, shapes, opcode, rest = match.groups()
            operands, attributes = _split(rest)
            if opcode in ('parameter', 'constant'):
                attributes = operands
            names = tuple(re.findall(r'%([\w.-]+)', operands))
            current[name] = Instruction(
                name, opcode, _arrays(shapes), names, attributes, is_root=bool(root)
            )
    return computations, entry


def first_group(pattern: str, text: str) -> str:
    """The first group of a pattern that must occur in a text."""
    match = re.search(pattern, text)
    assert match is not None, f'{pattern} is not in {text}'
    return match[1]


def _split(rest: str) -> tuple[str, str]:
    """Splits the text after the opening parenthesis of an opcode into operands and attributes."""
    depth = 1
    for index, letter in enumerate(rest):
        depth += (letter == '(') - (letter == ')')
        if depth == 0:
            return rest[:index], rest[index + 1 :]
    return rest, ''


def _arrays(shapes: str) -> tuple[Array, ...]:
    """The arrays of a type; `S(n)` in a layout is the number of the memory space, 0 the main memory."""
    found = []
    for dtype, sizes, layout in _ARRAY.findall(shapes):
        digits = re.search(r'\d+', dtype)
        bits = 8 if dtype == 'pred' else int(digits[0]) if digits else 0
        elements = math.prod(int(size.removeprefix('<=')) for size in sizes.split(',') if size)
        found.append(Array(math.ceil(elements * bits / 8), not re.search(r'S\([1-9]', layout)))
    return tuple(found)
