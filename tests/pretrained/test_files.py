"""Files of tensors: what is written comes back, and what is damaged or hostile is one line."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from vitjax.errors import RunError, UserError
from vitjax.files import atomic_path
from vitjax.pretrained.files import inside, read_tensors, weights_in, write_tensors

TENSORS = {
    'a/kernel': np.arange(6, dtype=np.float32).reshape(2, 3),
    'b': np.array(1.5, np.float32),
    'empty': np.zeros((0, 4), np.float32),
    'half': np.arange(3, dtype=np.float16),
    'long': np.arange(3),
    'turned': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}
BFLOAT16 = np.arange(4).astype(ml_dtypes.bfloat16)


def equal(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) and one[name].dtype == other[name].dtype
        for name in one
    )


@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_what_is_written_comes_back(tmp_path, name):
    tensors = TENSORS | ({'bfloat16': BFLOAT16} if name != 'x.npz' else {})
    write_tensors(tmp_path / name, tensors)
    assert equal(read_tensors(tmp_path / name), tensors)


def test_bfloat16_and_packed_npz(tmp_path):
    np.savez_compressed(tmp_path / 'x.npz', x=BFLOAT16.view('V2'), zeros=np.zeros(1000))
    read = read_tensors(tmp_path / 'x.npz')
    assert equal(read, {'x': BFLOAT16, 'zeros': np.zeros(1000)})


def test_safetensors_are_those_of_the_library(tmp_path):
    import safetensors.numpy as library

    library.save_file(TENSORS | {'turned': np.arange(6.0)}, tmp_path / 'x.safetensors')
    assert equal(read_tensors(tmp_path / 'x.safetensors'), TENSORS | {'turned': np.arange(6.0)})
    write_tensors(tmp_path / 'y.safetensors', TENSORS)
    assert equal(library.load_file(tmp_path / 'y.safetensors'), TENSORS)


# PyTorch's files, made without it: a stand-in pickles as its tensors do.


class Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class Name:
    """What a pickle is to import and call."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError('only what can be called is pickled as a call')


class TorchPickler(pickle._Pickler):
    """Writes storages and names as PyTorch does."""

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ('storage', Name('torch', 'FloatStorage'), value.key, 'cpu', value.array.size)
        return None

    def save_name(self, value):
        self.write(pickle.GLOBAL + f'{value.module}\n{value.name}\n'.encode())

    dispatch = pickle._Pickler.dispatch | {Name: save_name}


class Tensor:
    """Pickled as a call of `_rebuild_tensor_v2` on its storage."""

    def __init__(self, storage, shape, strides, offset=0):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return Name('torch._utils', '_rebuild_tensor_v2'), self.arguments


class Calls:
    def __init__(self, module, name, *arguments):
        self.function, self.arguments = Name(module, name), arguments

    def __reduce__(self):
        return self.function, self.arguments


STORAGE = Storage('0', np.arange(6, dtype=np.float32))


def torch_file(path, value, storages=(STORAGE,), packing=zipfile.ZIP_STORED):
    program = io.BytesIO()
    TorchPickler(program, 2).dump(value)
    with zipfile.ZipFile(path, 'w', packing) as archive:
        archive.writestr('archive/data.pkl', program.getvalue())
        archive.writestr('archive/byteorder', 'little')
        for storage in storages:
            archive.writestr(f'archive/data/{storage.key}', storage.array.tobytes())
    return path


BIG = Storage('0', np.ones(100_000, np.float32))
WHOLE = Tensor(STORAGE, (2, 3), (3, 1))
TURNED = Tensor(STORAGE, (3, 2), (1, 3))
PART = Tensor(STORAGE, (2,), (1,), 4)
EXPECTED = {
    'w': np.arange(6, dtype=np.float32).reshape(2, 3),
    't': np.arange(6, dtype=np.float32).reshape(2, 3).T,
    'p': np.array([4, 5], np.float32),
}
STATE = {'w': WHOLE, 't': TURNED, 'p': PART}


@pytest.mark.parametrize(
    'value',
    [
        STATE,
        OrderedDict(STATE),
        {'model': STATE, 'epoch': 3, 'optimizer': {'state': [1.5, None, True, (1, 2, 3, 4)]}},
        {'state_dict': STATE | {'steps': 7}},
        {'teacher': STATE, 'args': Calls('argparse', 'Namespace')},
    ],
)
def test_state_dicts_of_pytorch(tmp_path, value):
    assert equal(read_tensors(torch_file(tmp_path / 'x.pth', value)), EXPECTED)


def test_a_tensor_of_nothing(tmp_path):
    value = {'w': WHOLE, 'none': Tensor(STORAGE, (0, 3), (3, 1))}
    found = read_tensors(torch_file(tmp_path / 'x.pth', value))
    assert found['none'].shape == (0, 3)
    np.testing.assert_array_equal(found['w'], EXPECTED['w'])


def test_pytorch_itself(tmp_path):
    torch = pytest.importorskip('torch', reason='writes the files')
    weight = torch.arange(6.0).reshape(2, 3)
    state = {'w': weight, 't': weight.T, 'p': weight.flatten()[4:]}
    state = OrderedDict(state | {'q': torch.nn.Parameter(weight), 'h': weight.bfloat16()})
    torch.save({'model': state, 'lr': 0.1, 'rng': torch.get_rng_state()}, tmp_path / 'x.pth')
    expected = EXPECTED | {'q': EXPECTED['w'], 'h': EXPECTED['w'].astype(ml_dtypes.bfloat16)}
    assert equal(read_tensors(tmp_path / 'x.pth'), expected)


# Bad input. Each writes a file into a folder and returns its path.


def written(name, content):
    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


def npy(header, content=b'', version=1):
    """A member of an npz with a header of our own."""
    text = header.encode() + b'\n'
    return b'\x93NUMPY' + bytes([version, 0]) + struct.pack('<H', len(text)) + text + content


def npz(content, packing=zipfile.ZIP_DEFLATED, name='x.npy'):
    def write(folder):
        with zipfile.ZipFile(folder / 'x.npz', 'w', packing) as archive:
            archive.writestr(name, content)
        return folder / 'x.npz'

    return write


def safetensors(header, data=b'', length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return written('x.safetensors', struct.pack('<Q', length) + text + data)


def entry(dtype='F32', shape=(2,), offsets=(0, 8)):
    return {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}


def truncated(name, share):
    def write(folder):
        write_tensors(folder / name, {'x': np.ones((64, 64), np.float32)})
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])
        return folder / name

    return write


def torch_of(value, **options):
    return lambda folder: torch_file(folder / 'x.pth', value, **options)


def program(content):
    def write(folder):
        with zipfile.ZipFile(folder / 'x.pth', 'w') as archive:
            archive.writestr('archive/data.pkl', content)
        return folder / 'x.pth'

    return write


def index(weight_map, **shards):
    def write(folder):
        for name, tensors in shards.items():
            write_tensors(folder / f'{name}.safetensors', tensors)
        path = folder / 'model.safetensors.index.json'
        path.write_text(json.dumps({'weight_map': weight_map}))
        return path

    return write


def touched(*arguments):
    raise AssertionError('code in a pickle was run')


ONE = {'x': np.ones(2, np.float32)}
NPY = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
BAD = {
    'no file': (lambda folder: folder / 'x.npz', 'no such file'),
    'other ending': (written('x.h5', b''), 'weights are read from .npz, .safetensors'),
    'empty npz': (written('x.npz', b''), 'is damaged or no .npz file'),
    'text as npz': (written('x.npz', b'<html>' * 100), 'is damaged or no .npz file'),
    'truncated npz': (truncated('x.npz', 0.5), 'is damaged or no .npz file'),
    'bomb': (npz(npy(NPY.replace('(2,)', '(25000000,)'), bytes(10**8))), 'no weights do that'),
    'lzma': (
        npz(npy(NPY, bytes(8)), zipfile.ZIP_LZMA),
        'compression is none of those that numpy writes',
    ),
    'absurd shape': (
        npz(npy(NPY.replace('(2,)', '(2000000000000,)'), bytes(8))),
        'is damaged or no .npz file',
    ),
    'negative shape': (
        npz(npy(NPY.replace('(2,)', '(-1, -2)'), bytes(8))),
        'is damaged or no .npz file',
    ),
    'code as header': (npz(npy('__import__("os").system("false")')), 'is damaged'),
    'long header': (npz(npy(NPY + ' ' * 20_000, bytes(8))), 'is damaged'),
    'objects': (npz(npy(NPY.replace('<f4', '|O'), bytes(16))), 'Object arrays cannot be loaded'),
    'no npy': (npz(b'hello', name='x.npy'), 'is damaged'),
    'short': (written('x.safetensors', b'1234'), 'is damaged or no .safetensors file'),
    'truncated': (truncated('x.safetensors', 0.5), 'file not fully covered'),
    'long header length': (safetensors({}, length=2**62), 'header too large'),
    'no json': (safetensors(b'\xff\xfe'), 'is damaged'),
    'deep json': (safetensors(b'[' * 100_000), 'is damaged'),
    'list': (safetensors([]), 'is damaged'),
    'overlap': (
        safetensors({'x': entry(), 'y': entry()}, bytes(8)),
        'invalid offset for tensor',
    ),
    'gap': (safetensors({'x': entry()}, bytes(12)), 'file not fully covered'),
    'other size': (
        safetensors({'x': entry(shape=(3,))}, bytes(8)),
        'invalid shape, data type, or offset',
    ),
    'negative': (
        safetensors({'x': entry(shape=(-1, -2))}, bytes(8)),
        'invalid value: integer `-1`',
    ),
    'huge': (
        safetensors({'x': entry(shape=(2**40, 2**40))}, bytes(8)),
        'overflow computing buffer size',
    ),
    'type': (safetensors({'x': entry('F8_E5M2', shape=(8,))}, bytes(8)), 'x is of type F8_E5M2'),
    'words': (safetensors({'x': entry(shape=('a',))}, bytes(8)), 'is damaged'),
    'twice': (
        safetensors(
            json.dumps({'x': entry(), 'y': entry()}).replace('"y"', '"x"').encode(), bytes(8)
        ),
        'a name occurs twice',
    ),
    'old pth': (
        written('x.pth', pickle.dumps({'w': 1})),
        'was written before PyTorch 1.6; then, where PyTorch is',
    ),
    'code': (torch_of({'w': Calls('os', 'system', 'false')}), 'it holds os.system, and Python'),
    'our code': (torch_of(Calls(__name__, 'touched')), 'touched, and Python objects are not read'),
    'eval': (torch_of({'w': Calls('builtins', 'eval', '1')}), 'it holds builtins.eval'),
    'known name': (
        torch_of({'w': Calls('torch', 'FloatStorage', 9)}),
        'calls what makes no tensor',
    ),
    'instruction': (program(b'\x80\x02ios\nsystem\n.'), 'has the instruction INST'),
    'stack global': (program(b'\x80\x04\x8c\x02os\x8c\x06system\x93.'), 'instruction STACK_GLOBAL'),
    'unfinished': (program(b'\x80\x02}'), 'is damaged or no .pth file'),
    'nothing left': (program(b'\x80\x02.'), 'is damaged or no .pth file'),
    'no mark': (program(b'\x80\x02}u.'), 'is damaged or no .pth file'),
    'tuple as key': (torch_of({(1, 2): 3}), 'a dict with keys of type tuple'),
    'list, not dict': (torch_of([WHOLE]), 'it holds a list, not a state dict'),
    'no storage': (torch_of(STATE, storages=()), 'is damaged or no .pth file'),
    'out of storage': (torch_of({'w': Tensor(STORAGE, (7,), (1,))}), 'does not lie in its storage'),
    'before storage': (torch_of({'w': Tensor(STORAGE, (2,), (1,), -2)}), 'a tensor has an offset'),
    'stride 0': (torch_of({'w': Tensor(STORAGE, (10**12,), (0,))}), 'that repeats the 6 it stores'),
    'shared': (
        torch_of({str(i): Tensor(BIG, (100_000,), (1,)) for i in range(1000)}, storages=(BIG,)),
        'no weights do that',
    ),
    'packed': (torch_of(STATE, packing=zipfile.ZIP_DEFLATED), 'it is packed'),
    'index': (index('x'), 'it has no weight_map'),
    'index leads out': (index({'x': '../x.safetensors'}), "'../x.safetensors' leads out of"),
    'index absolute': (index({'x': '/etc/passwd'}), "'/etc/passwd' leads out of the folder"),
    'no shard': (index({'x': 'x.safetensors'}), 'has no x.safetensors'),
    'other shard': (
        index({'y': 'a.safetensors'}, a=ONE),
        'a.safetensors and model.safetensors.index',
    ),
}


@pytest.mark.parametrize(('write', 'message'), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_little_memory(tmp_path, write, message):
    path = write(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as error:
            read_tensors(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert '\n' not in str(error.value)
    assert peak < 20e6


WHOLE_FILES = {
    'x.npz': lambda path: np.savez_compressed(path, **TENSORS),
    'x.safetensors': lambda path: write_tensors(path, TENSORS),
    'x.pth': lambda path: torch_file(path, {'model': STATE, 'list': [1, (2.5, None)]}),
}


@pytest.mark.parametrize('name', WHOLE_FILES)
@given(data=strategies.data())
@settings(max_examples=60, deadline=None)
def test_any_damage_is_one_line(tmp_path_factory, name, data):
    """Bytes changed anywhere, or the end cut off: tensors, or one line."""
    path = tmp_path_factory.getbasetemp() / name
    WHOLE_FILES[name](path)
    content = bytearray(path.read_bytes())
    places = strategies.integers(0, len(content) - 1)
    for place in data.draw(strategies.lists(places, max_size=4)):
        content[place] = data.draw(strategies.integers(0, 255))
    path.unlink()  # what was read may still be mapped
    path.write_bytes(content[: data.draw(places | strategies.just(len(content)))])
    try:
        tensors, message = read_tensors(path), name
    except UserError as error:
        tensors, message = {}, str(error)
    assert name in message
    assert '\n' not in message
    assert sum(tensor.nbytes for tensor in tensors.values()) <= 1 << 20


def test_shards_are_put_together(tmp_path):
    weight_map = {'x': 'a.safetensors', 'y': 'b.safetensors', 'z': 'b.safetensors'}
    parts = {'a': ONE, 'b': {'y': np.zeros(3), 'z': np.zeros(1)}}
    path = index(weight_map, **parts)(tmp_path)
    assert equal(read_tensors(path), parts['a'] | parts['b'])
    assert weights_in(tmp_path) == path


@pytest.mark.parametrize(
    ('names', 'found'),
    [
        (['a.npz'], 'a.npz'),
        (['model.safetensors', 'other.safetensors', 'pytorch_model.bin'], 'model.safetensors'),
        (
            ['pytorch_model-1-of-1.bin', 'pytorch_model.bin.index.json'],
            'pytorch_model.bin.index.json',
        ),
        (['weights.safetensors', 'weights.pth'], 'weights.safetensors'),
        (['weights.pth', 'notes.txt'], 'weights.pth'),
        (['notes.txt'], None),
        (['a.npz', 'b.npz'], UserError),
    ],
)
def test_the_weights_in_a_folder(tmp_path, names, found):
    for name in names:
        (tmp_path / name).touch()
    if found is UserError:
        with pytest.raises(UserError, match=r'several weights \(a.npz, b.npz\)'):
            weights_in(tmp_path)
    else:
        assert weights_in(tmp_path) == (found and tmp_path / found)


def test_links_stay_in_the_folder_or_in_the_cache(tmp_path):
    folder = tmp_path / 'models--o--n/snapshots/1'
    blobs = tmp_path / 'models--o--n/blobs'
    folder.mkdir(parents=True)
    blobs.mkdir()
    for place in (blobs / 'f0', tmp_path / 'secret'):
        place.touch()
    (folder / 'model.safetensors').symlink_to('../../blobs/f0')
    assert inside(folder, 'model.safetensors').is_file()
    for name, target in (('config.json', '../../../secret'), ('x.npz', '/etc/hostname')):
        (folder / name).symlink_to(target)
        with pytest.raises(UserError, match='leads out of the folder'):
            inside(folder, name)
    (folder / 'loop').symlink_to('loop')
    with pytest.raises(UserError, match='has no loop'):
        inside(folder, 'loop')
    plain = tmp_path / 'plain'
    plain.mkdir()
    (plain / 'model.safetensors').symlink_to('../secret')
    with pytest.raises(UserError, match='leads out of the folder'):
        weights_in(plain)


def test_nothing_half_written_stays(tmp_path):
    def fill(path, error):
        with atomic_path(path) as place:
            place.mkdir()
            (place / 'part').write_text('x')
            raise error

    with pytest.raises(RunError, match=r'cannot write .*full: No space left'):
        fill(tmp_path / 'full', OSError(28, 'No space left on device'))
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / 'full', KeyboardInterrupt())
    assert not list(tmp_path.iterdir())
    with atomic_path(tmp_path / 'new/file') as place:
        place.write_text('whole')
    assert (tmp_path / 'new/file').read_text() == 'whole'
    with pytest.raises(UserError, match='exists and is not an empty folder'):
        fill(tmp_path / 'new', AssertionError())
