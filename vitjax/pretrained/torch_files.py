"""Reading PyTorch's checkpoint files (`.pth`, `.pt`, `.bin`) with no PyTorch and executing nothing.

Such a file is a zip archive of `data.pkl` and the storages of the tensors. A pickle is a program for a
stack machine; the machine here knows only what builds tensors and plain values, and calls nothing.
"""

import dataclasses
import math
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vitjax.errors import UserError

_STORAGES = {
    'torch BoolStorage': np.bool_,
    'torch ByteStorage': np.uint8,
    'torch CharStorage': np.int8,
    'torch ShortStorage': np.int16,
    'torch IntStorage': np.int32,
    'torch LongStorage': np.int64,
    'torch HalfStorage': np.float16,
    'torch BFloat16Storage': ml_dtypes.bfloat16,
    'torch FloatStorage': np.float32,
    'torch DoubleStorage': np.float64,
}
_TENSOR, _PARAMETER = 'torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_parameter'
# Read as dicts. Training scripts store their command line, a Namespace, beside the weights.
_RECORDS = ('collections OrderedDict', 'argparse Namespace')
_KNOWN = {*_STORAGES, *_RECORDS, _TENSOR, _PARAMETER}
_CONVERT = (
    'where PyTorch is, convert its state dict: python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('OLD.pth', weights_only=True), 'NEW.safetensors')\"; of a whole model, "
    'save model.state_dict()'
)
_MARK = object()


@dataclasses.dataclass(frozen=True)
class _Global:
    """What a pickle names to be called; here it is only compared."""

    name: str


class _Refused(Exception):
    """What this reader does not do."""


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a state dict, also one within {'model': ...} or {'state_dict': ...}.

    Raises UserError for what is not made of tensors and plain values alone, and whatever zipfile,
    pickletools and numpy raise for a damaged file.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f'{path} is damaged, or was written before PyTorch 1.6; then, {_CONVERT}')
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError('it is packed, as PyTorch packs none')
        names = {member.filename for member in members}
        programs = [name for name in names if name.endswith('data.pkl')]
        if len(programs) != 1:
            raise ValueError('it has no data.pkl')
        folder = programs[0].removesuffix('data.pkl')
        if f'{folder}byteorder' in names and archive.read(f'{folder}byteorder') != b'little':
            raise ValueError('it is big-endian')
        storages = {}

        def open_storage(kind: str, key: str) -> np.ndarray:
            if key not in storages:
                storages[key] = archive.read(f'{folder}data/{key}')
            return np.frombuffer(storages[key], _STORAGES[kind])

        try:
            value = _Machine(open_storage).run(archive.read(programs[0]))
        except _Refused as error:
            raise UserError(f'{path}: {error}; {_CONVERT}') from error
    state = _unwrap(value)
    if not isinstance(state, dict):
        raise ValueError(f'it holds a {type(state).__name__}, not a state dict')
    return {str(name): x for name, x in state.items() if isinstance(x, np.ndarray)}


class _Machine:
    """Runs a pickle that builds dicts, lists, tuples, numbers, texts and tensors, and nothing else."""

    def __init__(self, open_storage: Callable[[str, str], np.ndarray]):
        self._open_storage = open_storage
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """What the program leaves; an error of any kind if it is no such program."""
        stack = self._stack
        for opcode, argument, _ in pickletools.genops(program):
            match opcode.name:
                case 'STOP':
                    return stack.pop()
                case 'PROTO' | 'FRAME':
                    pass
                case 'NONE' | 'NEWTRUE' | 'NEWFALSE':
                    stack.append({'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}[opcode.name])
                case 'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT':
                    stack.append(argument)
                case 'BINUNICODE' | 'SHORT_BINUNICODE':
                    stack.append(argument)
                case 'EMPTY_DICT' | 'EMPTY_LIST' | 'EMPTY_TUPLE':
                    stack.append({'DICT': {}, 'LIST': [], 'TUPLE': ()}[opcode.name[6:]])
                case 'MARK':
                    stack.append(_MARK)
                case 'BINPUT' | 'LONG_BINPUT':
                    self._memo[argument] = stack[-1]
                case 'MEMOIZE':
                    self._memo[len(self._memo)] = stack[-1]
                case 'BINGET' | 'LONG_BINGET':
                    stack.append(self._memo[argument])
                case 'TUPLE':
                    stack.append(tuple(self._since_mark()))
                case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                    stack.append(tuple(self._last(int(opcode.name[5:]))))
                case 'APPEND':
                    (item,) = self._last(1)
                    stack[-1].append(item)
                case 'APPENDS':
                    items = self._since_mark()
                    stack[-1].extend(items)
                case 'SETITEM':
                    self._set(self._last(2))
                case 'SETITEMS':
                    self._set(self._since_mark())
                case 'GLOBAL':
                    if argument not in _KNOWN:
                        name = argument.replace(' ', '.')
                        raise _Refused(f'it holds {name}, and Python objects are not read')
                    stack.append(_Global(argument))
                case 'BINPERSID':
                    stack.append(self._storage(stack.pop()))
                case 'REDUCE' | 'NEWOBJ':
                    stack.append(_build(*self._last(2)))
                case 'BUILD':
                    stack.pop()  # attributes of an OrderedDict or a Namespace; no tensor is among them
                case name:
                    raise _Refused(f'its pickle has the instruction {name}, which no weights need')
        raise ValueError('its pickle does not end')

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError('its pickle takes more than it made')
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        place = next(i for i in reversed(range(len(self._stack))) if self._stack[i] is _MARK)
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items

    def _set(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A key of tuples within tuples would take for ever to look up.
            if not isinstance(key, (str, int)):
                raise _Refused(f'it has a dict with keys of type {type(key).__name__}')
            self._stack[-1][key] = value

    def _storage(self, identity: Any) -> np.ndarray:
        """('storage', type, key, device, number of elements) -> its elements."""
        word, kind, key, *_ = identity
        # Of tuples within tuples nothing may be compared, hashed or shown: it would take for ever.
        named = isinstance(kind, _Global) and kind.name in _STORAGES
        if not (isinstance(word, str) and word == 'storage' and named and isinstance(key, str)):
            raise ValueError('its pickle refers to something that is no storage')
        return self._open_storage(kind.name, key)


def _build(function: Any, arguments: tuple) -> Any:
    if function == _Global(_TENSOR):
        return _view(*arguments[:4])
    if function == _Global(_PARAMETER):
        return arguments[0]
    if function in map(_Global, _RECORDS) and not arguments:
        return {}
    raise _Refused('its pickle calls what makes no tensor')


def _view(storage: np.ndarray, offset: int, shape: tuple, strides: tuple) -> np.ndarray:
    """A tensor in its storage; offset and strides count elements."""
    numbers = (offset, *shape, *strides)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError('a tensor has an offset, shape or strides that are no numbers from 0 up')
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= len(storage):
        raise ValueError(f'a tensor of {shape} does not lie in its storage of {len(storage)}')
    if math.prod(shape) > len(storage):
        raise _Refused(f'it holds a tensor of {shape} that repeats the {len(storage)} it stores')
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _unwrap(value: Any) -> Any:
    """The state dict in what training scripts store around it."""
    for key in ('state_dict', 'model', 'teacher', 'student'):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            return _unwrap(value[key])
    return value
