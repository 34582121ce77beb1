import pytest

torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")

import json  # noqa: E402

import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402
from original_cases import HUGGINGFACE as CASES  # noqa: E402
from original_cases import LABELS, VIT  # noqa: E402
from originals import (  # noqa: E402
    as_torch,
    assert_close,
    assert_same_weights,
    computed,
    convert,  # noqa: F401
    images_for,
    randomised,
)
from originals import huggingface_outputs as outputs  # noqa: E402

import vitjax  # noqa: E402
from vitjax.errors import UserError  # noqa: E402
from vitjax.pretrained.layouts.huggingface_config import kind_for  # noqa: E402


def original(name, settings):
    cls = getattr(transformers, name)
    return randomised(cls(cls.config_class(**settings)))


@pytest.mark.parametrize('case', CASES)
def test_computes_what_transformers_does_and_it_reads_what_we_write(
    case,
    tmp_path,
    convert,  # noqa: F811
):
    name, settings, expected = CASES[case]
    model = original(name, settings)
    model.save_pretrained(tmp_path / 'theirs')
    loaded = vitjax.load(tmp_path / 'theirs')
    assert {key: getattr(loaded.model, key) for key in expected} == expected
    assert loaded.labels == (tuple(LABELS.values()) if 'id2label' in settings else None)
    images = images_for(loaded)
    theirs = outputs(model, as_torch(images))
    assert_close('huggingface', computed(loaded, images), theirs)

    folder, again = convert(loaded, 'huggingface')
    assert_same_weights(loaded, again)
    assert again.labels == loaded.labels
    written, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert_close('huggingface', outputs(written.eval(), as_torch(images)), theirs)
    assert written.config.id2label == model.config.id2label


@pytest.mark.parametrize('case', ['ViT with head', 'DINOv2, SwiGLU', 'DeiT with teacher'])
def test_names_in_memory_are_read_as_those_in_files(case, tmp_path):
    name, settings, _ = CASES[case]
    model = original(name, settings)
    model.save_pretrained(tmp_path / 'files')
    model.config.save_pretrained(tmp_path / 'memory')
    path = tmp_path / 'memory' / 'model.safetensors'
    safetensors.torch.save_file(model.state_dict(), path)
    in_files = safetensors.torch.load_file(tmp_path / 'files' / 'model.safetensors')
    assert in_files.keys() != model.state_dict().keys()
    assert_same_weights(vitjax.load(tmp_path / 'files'), vitjax.load(tmp_path / 'memory'))


@pytest.mark.parametrize('image_size', [(24, 16), (8, 32), (12, 40)])
@pytest.mark.parametrize(
    'case', ['ViT with head', 'DeiT with teacher', 'DINOv2', 'DINOv2 with registers']
)
def test_another_size_is_had_as_in_transformers(case, image_size, tmp_path):
    name, settings, _ = CASES[case]
    model = original(name, settings)
    model.save_pretrained(tmp_path)
    loaded = vitjax.load(tmp_path, image_size=image_size)
    embeddings = getattr(model, model.base_model_prefix, model).embeddings
    patches = image_size[0] * image_size[1] // 16
    tokens = torch.zeros(1, embeddings.position_embeddings.shape[1] - 16 + patches, 32)
    expected = {'positions': embeddings.interpolate_pos_encoding(tokens, *image_size)}
    assert_close('huggingface, another size', loaded.variables['params'], expected)


def test_another_size_computes_what_transformers_does(tmp_path):
    name, settings, _ = CASES['DINOv2']
    model = original(name, settings)
    model.save_pretrained(tmp_path)
    loaded = vitjax.load(tmp_path, image_size=(24, 40))
    images = images_for(loaded)
    theirs = outputs(model, as_torch(images))
    assert_close('huggingface, another size', computed(loaded, images), theirs)


PROCESSORS = {
    'ViT': (
        {'image_processor_type': 'ViTImageProcessor', 'size': {'height': 16, 'width': 16}},
        {'crop': 1.0, 'squash': True, 'interpolation': 'bilinear', 'mean': (0.5,) * 3},
    ),
    'DINOv2': (
        {
            'image_processor_type': 'BitImageProcessor',
            'size': {'shortest_edge': 20},
            'crop_size': {'height': 16, 'width': 16},
            'do_center_crop': True,
            'resample': 3,
            'image_mean': [0.1, 0.2, 0.3],
        },
        {'crop': 0.8, 'squash': False, 'interpolation': 'bicubic', 'mean': (0.1, 0.2, 0.3)},
    ),
    'DeiT': (
        {
            'image_processor_type': 'DeiTImageProcessor',
            'size': {'height': 20, 'width': 20},
            'crop_size': {'height': 16, 'width': 16},
            'do_center_crop': True,
            'resample': 3,
        },
        {'crop': 0.8, 'squash': True, 'interpolation': 'bicubic'},
    ),
}


@pytest.mark.parametrize(
    ('changes', 'mean', 'std'),
    [
        ({'rescale_factor': 1 / 127.5, 'image_mean': [1.0] * 3}, 0.5, 0.5),
        ({'do_rescale': False, 'image_mean': [127.5] * 3, 'image_std': [51.0] * 3}, 0.5, 0.2),
        ({'do_rescale': False, 'do_normalize': False}, 0, 1 / 255),
        ({'rescale_factor': 1 / 255, 'image_mean': [0.1] * 3}, 0.1, 1),
    ],
)
def test_any_scale_of_pixels(changes, mean, std, tmp_path):
    original('ViTForImageClassification', VIT).save_pretrained(tmp_path)
    stored = {'image_mean': [0.0] * 3, 'image_std': [1.0] * 3, 'size': 16} | changes
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(stored))
    preprocess = vitjax.load(tmp_path).preprocess
    np.testing.assert_allclose(preprocess.mean, mean)
    np.testing.assert_allclose(preprocess.std, std)
    (tmp_path / 'preprocessor_config.json').write_text('{"rescale_factor": "small"}')
    with pytest.raises(UserError, match='has the rescale_factor small'):
        vitjax.load(tmp_path)


@pytest.mark.parametrize('case', PROCESSORS)
def test_preprocessing_comes_and_goes(case, tmp_path, convert):  # noqa: F811
    stored, expected = PROCESSORS[case]
    stored = {'image_mean': [0.5] * 3, 'image_std': [0.4, 0.5, 0.6], 'resample': 2} | stored
    original('ViTForImageClassification', VIT).save_pretrained(tmp_path / 'theirs')
    (tmp_path / 'theirs' / 'preprocessor_config.json').write_text(json.dumps(stored))
    loaded = vitjax.load(tmp_path / 'theirs')
    assert loaded.preprocess.facts == {'std': (0.4, 0.5, 0.6)} | {'mean': (0.5,) * 3} | expected
    folder, again = convert(loaded, 'huggingface')
    assert again.preprocess == loaded.preprocess
    written = json.loads((folder / 'preprocessor_config.json').read_text())
    assert hasattr(transformers, written['image_processor_type'])
    names = stored.keys() - {'image_processor_type'}
    assert {name: written[name] for name in names} == {name: stored[name] for name in names}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'stem_depths': ()}, 'it has no stem'),
        ({'positions': 'rotary'}, "positions are 'rotary', not 'learned'"),
        ({'pooling': 'mean'}, "its pooling is 'mean', that of vit is 'cls'"),
        ({'norm_embeddings': True}, 'normalised after the last block alone'),
        ({'patch_bias': False}, 'its patch embedding has a bias'),
        ({'num_registers': 2}, 'only DINOv2, which has layer_scale, has registers'),
        ({'gated_mlp': True}, 'only DINOv2, which has layer_scale, has a gated MLP'),
        ({'representation_size': 8}, 'its pooler is of ViT and DeiT without head'),
        ({'distillation': 'head', 'layer_scale': 1.0}, 'no layer_scale in distilled models'),
        ({'distillation': 'head', 'num_classes': 0}, "there is no distillation 'head'"),
        ({'layer_scale': 1.0, 'num_classes': 0, 'mlp_dim': 12}, 'not 12'),
        ({'layer_scale': 1.0}, "its pooling is 'cls', that of dinov2 is 'cls_mean'"),
        (
            {
                'layer_scale': 1.0,
                'num_classes': 0,
                'num_registers': 1,
                'prefix_positions': 'all',
            },
            "registers have no positions: load the weights with prefix_positions='none'",
        ),
        (
            {'layer_scale': 1.0, 'num_classes': 0, 'gated_mlp': True},
            "its gated MLP has the activation 'silu'",
        ),
        ({'pad': True}, 'it cuts the image into whole patches'),
    ],
)
def test_what_transformers_cannot_hold(settings, message):
    tiny = dict(width=8, depth=1, num_heads=2, image_size=16, patch_size=8)
    model = vitjax.create_model('vit', **tiny | settings)
    with pytest.raises(UserError, match=message):
        kind_for(model)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'hidden_size': 48}, 'its config says width=48, the tensors say 32'),
        ({'patch_size': 8}, r'patch_size=\(8, 8\), the tensors say \(4, 4\)'),
        ({'image_size': 20}, r'positions of 16 patches, but an image of \(20, 20\) has 5 x 5'),
        ({'hidden_act': 'mish'}, "its config says hidden_act='mish'"),
        ({'pooler_act': 'relu'}, 'pooler_act other than tanh'),
        ({'num_attention_heads': 5}, 'num_heads 5 does not divide width 32'),
        ({'num_attention_heads': 'x'}, "num_heads must be at least 1, not 'x'"),
        ({'model_type': 'dinov2'}, "its config says 'dinov2', the tensors are of 'vit'"),
        ({'id2label': {'0': 'cat'}}, 'its config names 1 classes, the tensors have 2'),
    ],
)
def test_a_config_that_contradicts_the_tensors(change, message, tmp_path):
    original('ViTForImageClassification', VIT).save_pretrained(tmp_path)
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        vitjax.load(tmp_path)


def test_without_a_config_heads_are_asked_for(tmp_path):
    original('ViTForImageClassification', VIT).save_pretrained(tmp_path)
    (tmp_path / 'config.json').unlink()
    with pytest.raises(UserError, match='does not tell num_heads'):
        vitjax.load(tmp_path)
    assert vitjax.load(tmp_path, num_heads=4).model.norm_epsilon == 1e-12
