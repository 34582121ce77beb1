"""Checkpoints of other libraries compute here what these libraries computed when that was recorded."""

import dataclasses
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import recorded
from marian_folder import LENGTH, SOURCE, TEXTS
from originals import assert_close, assert_same_weights, computed, images_for, meta_names

import vitjax
from vitjax.generation.translation import search
from vitjax.models.mae import MAE
from vitjax.tasks.masked_autoencoding import MaskedAutoencoding


@pytest.mark.parametrize(
    ('library', 'case'), [*recorded.cases('timm'), *recorded.cases('huggingface')]
)
def test_recorded_checkpoint_gives_recorded_outputs(library, case, tmp_path):
    about = recorded.read(library)[1][case]
    loaded = vitjax.load(recorded.write(library, case, tmp_path / 'theirs'))
    assert loaded.info['layout'] == library
    check_attributes(loaded, about)
    assert_close(library, computed(loaded, images_for(loaded)), recorded.outputs(library, case))
    vitjax.save(loaded, tmp_path / 'ours', format=library)
    assert_same_weights(vitjax.load(tmp_path / 'ours'), loaded)


@pytest.mark.parametrize('case', recorded.read('meta')[1])
def test_recorded_checkpoint_with_metas_names_gives_recorded_outputs(case, tmp_path):
    about = recorded.read('meta')[1][case]

    def change(tensors):
        if 'renamed' not in about:
            return meta_names(tensors)
        return {re.sub(*about['renamed'], name): x for name, x in tensors.items()}

    folder = recorded.write('meta', case, tmp_path / 'theirs', change)
    loaded = vitjax.load(folder / 'model.safetensors', num_heads=4)
    assert loaded.info['layout'] == 'meta'
    check_attributes(loaded, about)
    assert_close('meta', computed(loaded, images_for(loaded)), recorded.outputs('meta', case))


@pytest.mark.slow
@pytest.mark.parametrize('names', ['in files', 'of the Hub', 'in memory'])
def test_recorded_masked_autoencoder_gives_recorded_outputs(names, tmp_path):
    about = recorded.read('mae')[1]['ViT-MAE']
    change = {
        'in files': None,
        'of the Hub': lambda tensors: {
            name.replace('decoder_encoder.layer', 'decoder_layers'): x
            for name, x in tensors.items()
        },
        'in memory': lambda tensors: {
            about['names_in_memory'][name]: x for name, x in tensors.items()
        },
    }[names]
    loaded = vitjax.load(recorded.write('mae', 'ViT-MAE', tmp_path / 'theirs', change))
    assert isinstance(loaded.model, MAE)
    expected = recorded.outputs('mae', 'ViT-MAE')
    found = masked(loaded, images_for(loaded), expected.pop('noise'))
    assert_close('mae', found, expected)


@pytest.mark.slow
@pytest.mark.parametrize('case', recorded.read('marian')[1])
def test_recorded_marian_gives_recorded_logits_and_translations(case, tmp_path):
    loaded = vitjax.load(recorded.write('marian', case, tmp_path / 'opus-mt-ko-en'))
    expected = recorded.outputs('marian', case)
    tokens, mask = loaded.preprocess(SOURCE)
    length = expected['input_ids'].shape[1]
    np.testing.assert_array_equal(tokens[:, :length], expected['input_ids'])
    assert not mask[:, length:].any()
    logits = loaded.model.apply(loaded.variables, tokens, expected['target'], mask)
    np.testing.assert_allclose(logits, expected['logits'], atol=2e-5)
    for beams in (1, 4):
        if (rows := expected.get(f'beams {beams}')) is None:
            continue
        found = search(
            loaded.model, loaded.variables, loaded.preprocess, tokens, mask, beams, beams
        )
        found = np.asarray(found.tokens).reshape(-1, LENGTH - 1)
        padded = np.full_like(found, loaded.preprocess.pad)
        padded[:, : rows.shape[1]] = rows
        np.testing.assert_array_equal(found, padded)
        assert len(set((found == 0).argmax(axis=1).tolist())) > 1  # sentences of several lengths


def test_recorded_tokens_of_marian(tmp_path):
    preprocess = vitjax.load(recorded.write('marian', 'shared', tmp_path / 'folder')).preprocess
    expected = recorded.outputs('marian', 'shared')
    rows = np.split(expected['text ids'], np.cumsum(expected['text lengths'])[:-1])
    for text, row in zip(TEXTS, rows, strict=True):
        assert [*preprocess.tokenizer.encode(text), preprocess.eos] == row.tolist(), text


@pytest.mark.parametrize(
    'part', ['cls_token', 'pos_embed', 'attn.qkv.bias', 'norm2.weight', 'head.bias']
)
def test_a_changed_tensor_changes_the_outputs(part, tmp_path):
    """The comparison can fail."""
    library, case = recorded.cases('timm')[0]

    def change(tensors):
        name = next(name for name in tensors if part in name)
        noise = recorded.weight('noise', tensors[name].shape)
        return tensors | {name: tensors[name] + np.float32(0.1) * noise}

    loaded = vitjax.load(recorded.write(library, case, tmp_path / 'changed', change))
    with pytest.raises(AssertionError, match='differ'):
        assert_close(library, computed(loaded, images_for(loaded)), recorded.outputs(library, case))


@pytest.mark.slow
@pytest.mark.parametrize('library', ['timm', 'huggingface', 'meta', 'mae', 'marian'])
def test_the_script_records_what_is_recorded(library):
    pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    pytest.importorskip('timm', reason="needs pip install 'vitjax[peers]'")
    pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    from record_originals import record

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the other libraries
        header, arrays = record(library)
    versions, cases, expected = recorded.read(library)
    assert header['cases'].keys() == cases.keys()
    for case in cases:
        assert header['cases'][case]['tensors'] == cases[case]['tensors']
    assert arrays.keys() == expected.keys(), versions
    for name, value in expected.items():
        if '/files/' not in name:
            np.testing.assert_allclose(
                arrays[name], value, atol=1e-5, err_msg=f'{name}, {versions}'
            )


def check_attributes(loaded, about):
    for name, value in about['expected'].items():
        value = tuple(value) if isinstance(value, list) else value
        assert getattr(loaded.model, name) == value, name


def masked(loaded, images, noise):
    """Prediction, loss and mask where the patches with the largest noise are hidden."""

    class WithNoise(MAE):
        def _shuffled(self, images):
            return jnp.argsort(noise, axis=1)

    fields = (field for field in dataclasses.fields(loaded.model) if field.init)
    arguments = {x.name: getattr(loaded.model, x.name) for x in fields}
    model = WithNoise(**arguments)
    batch = {'image': images, 'mask': np.ones(len(images), bool)}
    metrics, _ = MaskedAutoencoding().metrics(model, loaded.variables, batch, rngs={}, train=False)
    result = model.apply(loaded.variables, images)
    total, count = metrics['loss']
    prediction = np.asarray(result['prediction'])
    return {
        'prediction': prediction.reshape(*prediction.shape[:2], -1),
        'loss': total / count,
        'hidden': result['hidden'].astype(np.float32),
    }
