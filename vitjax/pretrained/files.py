"""Tensors in files, read without trusting them and written whole or not at all.

What is read is {name: array}. No more memory is taken than a small multiple of the file's true size,
whatever its headers claim, and nothing in a file is ever executed.
"""

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from vitjax.errors import UserError, one_line
from vitjax.pretrained.torch_files import read_torch

Tensors = Mapping[str, np.ndarray]

# Names of safetensors' types; 'BF16' is what numpy has no name for.
_SAFETENSORS_TYPES = {
    'BOOL': np.bool_,
    'U8': np.uint8,
    'I8': np.int8,
    'I16': np.int16,
    'I32': np.int32,
    'I64': np.int64,
    'F16': np.float16,
    'BF16': ml_dtypes.bfloat16,
    'F32': np.float32,
    'F64': np.float64,
}
# A file may unpack to so many times its size: weights hardly shrink, but one that is mostly zeros does.
_MOST_PACKED = 16
_SMALL = 1 << 20  # and one of zeros only, as tests write, to so many bytes
_LARGEST_JSON = 1 << 26


def read_tensors(path: Path) -> Tensors:
    """Reads a `.npz`, `.safetensors` or PyTorch file, or the shards that an `.index.json` names.

    Raises:
      UserError: not such a file, or a damaged, truncated or hostile one; names the file.
    """
    if path.name.endswith('.index.json'):
        return _read_shards(path)
    readers = {'.npz': _read_npz, '.safetensors': _read_safetensors}
    readers |= dict.fromkeys(('.pth', '.pt', '.bin'), read_torch)
    if path.suffix not in readers:
        raise UserError(f'{path}: weights are read from {", ".join(readers)} files')
    if not path.is_file():
        raise UserError(f'{path}: no such file')
    try:
        tensors = readers[path.suffix](path)
        size = path.stat().st_size
    except UserError:
        raise
    except OSError as error:
        raise UserError(f'{path}: {error.strerror or "cannot be read"}') from error
    # What a damaged file makes zipfile, numpy, json and struct raise is nearly anything.
    except Exception as error:
        raise UserError(f'{path} is damaged or no {path.suffix} file: {_reason(error)}') from error
    _check_unpacked(path, sum(tensor.nbytes for tensor in tensors.values()), size)
    return tensors


def read_json_beside(path: Path) -> dict:
    """The object in a JSON file that lies beside weights; UserError if it is damaged."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f'it has {path.stat().st_size} bytes')
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError('it holds no object')
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path} is damaged: {_reason(error)}') from error
    return value


def weights_in(folder: Path) -> Path | None:
    """The file of weights in a folder, None if there is none; UserError if there are several.

    Safetensors go before PyTorch's files, which hold the same where both are.
    """
    found = {path.name: path for path in sorted(folder.iterdir())}
    for name in ('model.safetensors', 'pytorch_model.bin'):
        for whole in (name, f'{name}.index.json'):
            if whole in found:
                return inside(folder, whole)
    for suffixes in (('.safetensors', '.npz'), ('.pth', '.pt', '.bin')):
        names = [name for name, path in found.items() if path.suffix in suffixes]
        if len(names) > 1:
            raise UserError(f'{folder} has several weights ({", ".join(names[:5])}): name the file')
        if names:
            return inside(folder, names[0])
    return None


def inside(folder: Path, name: str) -> Path:
    """The file of a name in a folder; UserError if the name, or the link it is, leads out of there.

    Links in a snapshot of Hugging Face's cache lead to `blobs` beside `snapshots`, which is allowed.
    """
    path = folder / name
    root = folder.parent.parent if folder.parent.name == 'snapshots' else folder
    # Not `resolve`, which raises where a link leads to itself.
    if Path(name).name != name or not Path(os.path.realpath(path)).is_relative_to(
        os.path.realpath(root)
    ):
        raise UserError(f'{folder}: {name!r} leads out of the folder; name the file itself')
    if not path.is_file():
        raise UserError(f'{folder} has no {name}')
    return path


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Writes `.npz` or `.safetensors`, as the name says; float32 arrays stay as they are, to the bit."""
    if path.suffix == '.npz':
        with path.open('wb') as file:  # np.savez adds '.npz' to a path, and is slow where it packs
            np.savez(file, **tensors)
    else:
        _write_safetensors(path, tensors)


def _read_npz(path: Path) -> Tensors:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith('.npy')]
        if {member.compress_type for member in members} - {
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        }:
            raise ValueError('it is packed as numpy packs none')
        _check_unpacked(path, sum(member.file_size for member in members), path.stat().st_size)
        return {
            member.filename.removesuffix('.npy'): _read_npy(archive, member) for member in members
        }


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = read_header[version](file)
        if dtype.hasobject or dtype.names:
            raise ValueError(f'{member.filename} holds Python objects, which are not read')
        # big_vision's bfloat16: numpy stores what it does not know as raw bytes.
        dtype = np.dtype(ml_dtypes.bfloat16) if dtype == np.dtype('V2') else dtype
        content = file.read()
    if math.prod(shape) * dtype.itemsize != len(content) or min(shape, default=0) < 0:
        raise ValueError(f'{member.filename} has {len(content)} bytes, its header says {shape}')
    return np.frombuffer(content, dtype).reshape(shape, order='F' if fortran else 'C')


def _read_safetensors(path: Path) -> Tensors:
    size = path.stat().st_size
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        start = 8 + length
        if size < 8 or start > size:
            raise ValueError(f'its header claims {length} bytes, the file has {size}')
        header = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    header.pop('__metadata__', None)
    # Not read but mapped: what is not used costs no memory.
    data = np.memmap(path, np.uint8, 'r', start) if size > start else np.zeros(0, np.uint8)
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]['data_offsets']):
        begin, stop = entry['data_offsets']
        if entry['dtype'] not in _SAFETENSORS_TYPES:
            raise ValueError(f'{name} is of type {entry["dtype"]}, which is not read')
        shape, dtype = tuple(entry['shape']), np.dtype(_SAFETENSORS_TYPES[entry['dtype']])
        expected = math.prod(shape) * dtype.itemsize
        if (
            begin != end
            or stop - begin != expected
            or stop > len(data)
            or min(shape, default=0) < 0
        ):
            raise ValueError(
                f'{name} lies at {begin} to {stop} of {len(data)} bytes, and {shape} takes {expected}'
            )
        tensors[name], end = data[begin:stop].view(dtype).reshape(shape), stop
    if end != len(data):
        raise ValueError(f'its tensors take {end} of {len(data)} bytes')
    return tensors


def _write_safetensors(path: Path, tensors: Tensors) -> None:
    header, end = {'__metadata__': {'format': 'pt'}}, 0  # transformers asks for the format
    names = {np.dtype(dtype): name for name, dtype in _SAFETENSORS_TYPES.items()}
    for name, tensor in sorted(tensors.items()):
        offsets = [end, end := end + tensor.nbytes]
        shape = list(tensor.shape)
        header[name] = {'dtype': names[tensor.dtype], 'shape': shape, 'data_offsets': offsets}
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)  # so that the data is aligned
    with path.open('wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        for _, tensor in sorted(tensors.items()):
            np.ascontiguousarray(tensor).tofile(file)


def _read_shards(path: Path) -> Tensors:
    index = read_json_beside(path).get('weight_map')
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise UserError(f'{path} is damaged: it has no weight_map of names and files')
    tensors = {}
    for file in sorted(set(index.values())):
        shard = read_tensors(inside(path.parent, file))
        named = {name for name, its_file in index.items() if its_file == file}
        if differing := sorted(named ^ shard.keys()):
            raise UserError(f'{path.parent / file} and {path.name} differ in {differing[0]}')
        tensors |= shard
    return tensors


def _check_unpacked(path: Path, unpacked: int, size: int) -> None:
    if unpacked > max(_MOST_PACKED * size, _SMALL):
        raise UserError(
            f'{path} has {size} bytes but claims to hold {unpacked}: no weights do that'
        )


def _without_repeats(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError('a name stands twice in its header')
    return found


def _reason(error: Exception) -> str:
    return getattr(error, 'strerror', None) or one_line(error) or type(error).__name__
