"""Records outputs of timm and transformers: `python tests/pretrained/record_originals.py`.

It needs the extra `peers` and writes `tests/pretrained/recorded/*.npz`, the files of `test_recorded.py`.
Where the extra is installed, a test also compares the files with what this script records there.
"""

import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import recorded
from marian_folder import LENGTH, SOURCE, TEXTS, random_model, write_folder
from original_cases import HUGGINGFACE, MAE, MARIAN, META_DINO, META_TIMM, TIMM, TIMM_TINY
from originals import as_torch, huggingface_outputs, timm_outputs


def images(shape):
    """Random images [B, H, W, C]."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def replace_weights(folder):
    """Gives the tensors of a checkpoint that a library wrote the values of `recorded.make_tensor`."""
    import safetensors.numpy

    path = folder / 'model.safetensors'
    stored = safetensors.numpy.load_file(path)
    changed = recorded.tensors({'tensors': {name: x.shape for name, x in stored.items()}})
    safetensors.numpy.save_file(changed, path, metadata={'format': 'pt'})
    return changed


def describe(folder, tensors, **more):
    """What a recording keeps of a checkpoint."""
    files = {
        path.name: json.loads(path.read_text())
        for path in sorted(folder.glob('*.json'))
        if path.name != 'model.safetensors.index.json'
    }
    shapes = {name: list(x.shape) for name, x in sorted(tensors.items())}
    return {'tensors': shapes, 'files': files, **more}


def record_timm(folder):
    import timm
    from timm.models import save_for_hf

    for case, (architecture, changes, expected) in TIMM.items():
        place = folder / case
        model = timm.create_model(architecture, **TIMM_TINY | changes)
        save_for_hf(model, place, safe_serialization=True)
        tensors = replace_weights(place)
        model = timm.create_model(f'local-dir:{place}', pretrained=True).eval()
        size = model.patch_embed.img_size
        channels = model.patch_embed.proj.in_channels
        inputs = images((2, *size, channels))
        yield (
            case,
            describe(place, tensors, expected=expected),
            timm_outputs(model, as_torch(inputs)),
        )


def record_huggingface(folder):
    for case, (name, settings, expected) in HUGGINGFACE.items():
        yield case, *huggingface_case(folder / case, name, settings, expected=expected)


def huggingface_case(place, name, settings, **more):
    import transformers

    kind = getattr(transformers, name)
    kind(kind.config_class(**settings)).save_pretrained(place)
    tensors = replace_weights(place)
    model = kind.from_pretrained(place).eval()
    height, width = np.broadcast_to(model.config.image_size, 2)
    inputs = as_torch(images((2, height, width, model.config.num_channels)))
    return describe(place, tensors, **more), huggingface_outputs(model, inputs)


def record_meta(folder):
    import timm
    import torch
    from timm.models import save_for_hf

    for case, (name, settings, expected) in META_DINO.items():
        about, found = huggingface_case(folder / case, name, settings, expected=expected)
        if 'num_labels' not in settings:
            found['logits'] = found['tokens'][:, 0]
        yield case, about | {'files': {}}, found
    for case, (architecture, changes, pattern, expected) in META_TIMM.items():
        place = folder / case
        save_for_hf(
            timm.create_model(architecture, **TIMM_TINY | changes), place, safe_serialization=True
        )
        tensors = replace_weights(place)
        model = timm.create_model(f'local-dir:{place}', pretrained=True).eval()
        with torch.no_grad():
            logits = model(as_torch(images((2, 16, 16, 3))))
        about = describe(place, tensors, expected=expected, renamed=pattern)
        yield case, about | {'files': {}}, {'logits': logits}


def record_mae(folder):
    import torch
    import transformers

    place = folder / 'mae'
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**MAE))
    model.save_pretrained(place)
    tensors = replace_weights(place)
    model = transformers.ViTMAEForPreTraining.from_pretrained(place).eval()
    in_memory = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    same = {x.tobytes(): name for name, x in in_memory.items()}
    names = {name: same[x.tobytes()] for name, x in tensors.items()}  # in files -> in memory
    inputs = images((2, 16, 16, 3))
    noise = np.random.default_rng(1).random((2, 16)).astype(np.float32)
    with torch.no_grad():
        found = model(as_torch(inputs), noise=torch.from_numpy(noise))
    outputs = {
        'prediction': found.logits,
        'loss': found.loss,
        'hidden': found.mask,
        'noise': torch.from_numpy(noise),
    }
    yield 'ViT-MAE', describe(place, tensors, names_in_memory=names), outputs


def record_marian(folder):
    import torch
    import transformers

    for case, (changes, generation) in MARIAN.items():
        place = folder / case
        write_folder(place, lambda size, g=generation, c=changes: random_model(size, g, **c))
        tensors = replace_weights(place)
        model = transformers.MarianMTModel.from_pretrained(place).eval()
        tokenizer = transformers.MarianTokenizer.from_pretrained(place)
        batch = tokenizer(SOURCE, return_tensors='pt', padding=True)
        target = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (len(SOURCE), 9))
        outputs = {'input_ids': batch.input_ids, 'target': torch.tensor(target)}
        more = {}
        with torch.no_grad():
            outputs['logits'] = model(**batch, decoder_input_ids=torch.tensor(target)).logits
            for beams in (1, 4) if generation or case == 'shared' else ():
                rows = model.generate(**batch, num_beams=beams, num_return_sequences=beams)
                outputs[f'beams {beams}'] = rows[:, 1:LENGTH]
        if case == 'shared':
            rows = model.generate(**batch, num_beams=4)
            more = {'translations': tokenizer.batch_decode(rows, skip_special_tokens=True)}
            ids = tokenizer(TEXTS).input_ids
            outputs['text lengths'] = torch.tensor([len(row) for row in ids])
            outputs['text ids'] = torch.tensor([number for row in ids for number in row])
            for file in ('source.spm', 'target.spm'):  # the same for all cases
                outputs[f'files/{file}'] = np.frombuffer((place / file).read_bytes(), np.uint8)
        yield case, describe(place, tensors, **more), outputs


LIBRARIES = {
    'timm': (record_timm, ['timm', 'torch']),
    'huggingface': (record_huggingface, ['transformers', 'torch']),
    'meta': (record_meta, ['timm', 'transformers', 'torch']),
    'mae': (record_mae, ['transformers', 'torch']),
    'marian': (record_marian, ['transformers', 'torch', 'sentencepiece']),
}


def record(library):
    """({'versions', 'cases'}, 'case/output' -> array) of a library as it is installed here."""
    make, packages = LIBRARIES[library]
    about, arrays = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for case, description, outputs in make(Path(folder)):
            about[case] = description
            for name, value in outputs.items():
                arrays[f'{case}/{name}'] = value if isinstance(value, np.ndarray) else value.numpy()
    versions = {package: importlib.metadata.version(package) for package in packages}
    return json.loads(json.dumps({'versions': versions, 'cases': about})), arrays


def main():
    recorded.FOLDER.mkdir(exist_ok=True)
    for library in sys.argv[1:] or LIBRARIES:
        header, arrays = record(library)
        path = recorded.FOLDER / f'{library}.npz'
        np.savez_compressed(path, header=json.dumps(header, ensure_ascii=False), **arrays)
        print(f'{path}: {len(header["cases"])} cases, {path.stat().st_size / 1e3:.0f} kB')


if __name__ == '__main__':
    main()
