"""Outputs of the original libraries, recorded by `record_originals.py`, and their checkpoints.

Weights are not stored: each tensor is a function of its name and shape (`weight`). A recording holds the
names and shapes of a checkpoint as the library wrote it, its JSON files, and the outputs of the library.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from vitjax.pretrained.files import write_tensors

FOLDER = Path(__file__).parent / 'recorded'


def weight(name, shape, scale=0.2):
    """A random tensor, the same in each process: norms and scales about 1, tokens and positions small.

    No value is 0 or 1, so that every parameter affects the outputs. The inputs of the first norm are small,
    so that its epsilon does, too.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.normal(size=shape)
    if any(part in name for part in ('patch_embed', 'token', 'pos_embed', 'position_emb')):
        scale = 0.01
    about_one = len(shape) == 1 and name.endswith(('weight', 'gamma', 'lambda1'))
    return (about_one + scale * values).astype(np.float32)


def read(library):
    """The recording of a library: (versions, case -> {'tensors', 'files', ...}, 'case/output' -> array)."""
    with np.load(FOLDER / f'{library}.npz') as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop('header')))
    return header['versions'], header['cases'], arrays


def cases(library):
    """(library, case) of each recorded checkpoint, to parametrize a test with."""
    return [(library, case) for case in read(library)[1]]


def outputs(library, case):
    """What the library computed: name -> array."""
    prefix = f'{case}/'
    arrays = read(library)[2]
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def tensors(case):
    """The tensors of a recorded checkpoint, name -> array."""
    fixed = any('decoder_pos_embed' in name for name in case['tensors'])
    return {name: make_tensor(name, tuple(x), fixed) for name, x in case['tensors'].items()}


def make_tensor(name, shape, fixed_positions):
    """A tensor of a recorded checkpoint: `weight`, but where a model needs certain values."""
    if fixed_positions and ('pos_embed' in name or 'position_embeddings' in name):
        return sine_cosine(int((shape[1] - 1) ** 0.5), shape[-1]).astype(np.float32)
    if name == 'final_logits_bias':  # of MarianMT: sentences end sooner or later
        values = weight(name, shape, scale=1.0)
        values[:, 0] = 2.5
        return values
    if name.startswith('model.') and len(shape) > 1:
        return weight(name, shape, scale=0.3)
    return weight(name, shape)


def sine_cosine(side, width):
    """The fixed positions of a masked autoencoder with a class token, in float64, [1, 1 + N, D]."""
    frequencies = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    table = np.zeros((side, side, width))
    for row in range(side):
        for column in range(side):
            x, y = column * frequencies, row * frequencies
            table[row, column] = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)])
    return np.pad(table.reshape(-1, width), ((1, 0), (0, 0)))[None]


def write(library, name, folder, change=None):
    """Writes a recorded checkpoint into a new folder; `change` gives its tensors other names."""
    case = read(library)[1][name]
    folder.mkdir(parents=True)
    arrays = tensors(case)
    write_tensors(folder / 'model.safetensors', change(arrays) if change else arrays)
    for file, content in case['files'].items():
        (folder / file).write_text(json.dumps(content))
    if library == 'marian':
        for output, content in outputs(library, 'shared').items():
            if output.startswith('files/'):
                (folder / output.removeprefix('files/')).write_bytes(content.tobytes())
    return folder
