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

# Types of safetensors that weights have here; others, such as float8, are not read.
_SAFETENSORS_TYPES = {'BOOL', 'U8', 'I8', 'I16', 'I32', 'I64', 'F16', 'BF16', 'F32', 'F64'}
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
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
        raise UserError(f'{path} is damaged or no {path.suffix} file: {one_line(error)}') from error
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
        raise UserError(f'{path} is damaged: {one_line(error)}') from error
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
        members = archive.infolist()
        if {x.compress_type for x in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ValueError('its compression is none of those that numpy writes')
        _check_unpacked(path, sum(x.file_size for x in members), path.stat().st_size)
        for member in members:
            _check_header(archive, member)
    names = [x.filename.removesuffix('.npy') for x in members if x.filename.endswith('.npy')]
    with np.load(path, allow_pickle=False) as arrays:
        return {name: _numeric(name, arrays[name]) for name in names}


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """ValueError for an array whose header claims more than is stored, which numpy would allocate first."""
    if not member.filename.endswith('.npy'):
        return
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _NPY_HEADERS[version](file)
    if math.prod(shape) * dtype.itemsize > member.file_size or min(shape, default=0) < 0:
        raise ValueError(f'{member.filename} has {member.file_size} bytes, its header says {shape}')


def _numeric(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.names:
        raise ValueError(f'{name} holds records, which are not read')
    # big_vision's bfloat16: numpy stores types that it does not know as raw bytes.
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype('V2') else array


def _read_safetensors(path: Path) -> Tensors:
    import safetensors

    with safetensors.safe_open(path, framework='numpy') as file:
        _check_names(path)
        for name in file.keys():  # noqa: SIM118, it is no dict
            if (kind := file.get_slice(name).get_dtype()) not in _SAFETENSORS_TYPES:
                raise ValueError(f'{name} is of type {kind}, which is not read')
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _check_names(path: Path) -> None:
    """ValueError if a name occurs twice in a header, of which the library would take the last."""
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        json.loads(file.read(length), object_pairs_hook=_without_repeats)


def _write_safetensors(path: Path, tensors: Tensors) -> None:
    import safetensors.numpy

    contiguous = {name: np.asarray(x, order='C') for name, x in tensors.items()}
    try:
        safetensors.numpy.save_file(
            contiguous, path, {'format': 'pt'}
        )  # transformers needs the format
    except safetensors.SafetensorError as error:  # of the disk
        raise OSError(str(error)) from error


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
        raise ValueError('a name occurs twice in its header')
    return found
