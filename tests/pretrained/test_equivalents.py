"""Every kind of model in every format: what computes the same, or a line that says why not."""

import functools
import json
import re

import jax
import numpy as np
import pytest
from random_weights import random_weights, same

import vitjax
from vitjax.errors import UserError
from vitjax.layers.positions import FIXED, sincos2d
from vitjax.pretrained.equivalents import position_table

TOLERANCE = 1e-5
GELU = {'activation': 'gelu'}
MAE = GELU | {'positions': 'sincos2d_mae'}
DINO = GELU | {'layer_scale': 1.0, 'mlp_dim': 64}
NO_TENSOR = "the layout 'google' has no tensor for "
SCALES = NO_TENSOR + 'encoder/blocks/attention_scale'
OF_CLS = "that of vit is 'cls'"

# What is saved, and why google, timm and huggingface cannot hold it; None where they do.
CASES = {
    'MAE, fine-tuned': (
        MAE | {'pooling': 'mean', 'class_token': True, 'norm_after_pooling': True},
        ("its pooling is 'mean', its norm_after_pooling is True", None, OF_CLS),
    ),
    'MAE, class token': (MAE, ("load it with activation='gelu_tanh'", None, None)),
    'MAE, GELU of tanh': ({'positions': 'sincos2d_mae'}, (None, None, None)),
    'big_vision': ({'positions': 'sincos2d', 'pooling': 'mean'}, (None, None, OF_CLS)),
    'big_vision, class token': ({'positions': 'sincos2d'}, (None, None, None)),
    'fixed, registers': (
        {'positions': 'sincos2d', 'num_registers': 2},
        (NO_TENSOR + 'register_tokens', None, 'only DINOv2, which has layer_scale, has registers'),
    ),
    'row by row': ({'positions': 'sinusoidal', 'image_size': (8, 12)}, (None, None, None)),
    'no positions': ({'positions': 'none'}, (None, None, None)),
    'rotary': (
        {'positions': 'rotary'},
        ("its positions is 'rotary'", "no positions 'rotary'", 'are'),
    ),
    'DINOv2, fine-tuned': (DINO, (SCALES, None, None)),
    'DINOv2, fixed': (DINO | {'positions': 'sincos2d_mae'}, (SCALES, None, None)),
    'DINOv2 with its head': (
        DINO | {'pooling': 'cls_mean'},
        ("no pooling 'cls_mean'", "no pooling 'cls_mean'", None),
    ),
    'DINOv2, SwiGLU': (
        DINO | {'activation': 'silu', 'gated_mlp': True, 'mlp_dim': 24},
        (SCALES, None, None),
    ),
    'DINOv2 with registers': (DINO | {'num_registers': 2, 'num_classes': 0}, (SCALES, None, None)),
    'DINOv2 with registers, fine-tuned': (DINO | {'num_registers': 2}, (SCALES, None, None)),
    'registers with positions': (
        DINO | {'num_registers': 2, 'prefix_positions': 'all'},
        (SCALES, None, "load the weights with prefix_positions='none'"),
    ),
    'DeiT III': (DINO | {'prefix_positions': 'none'}, (SCALES, None, None)),
    'distilled': (
        GELU | {'distillation': 'head', 'prefix_positions': 'none'},
        (NO_TENSOR + 'distillation_head/bias', None, None),
    ),
    'distilled, no positions': (
        GELU | {'distillation': 'head', 'positions': 'none'},
        (NO_TENSOR + 'distillation_head/bias', None, None),
    ),
    'encoder': ({'num_classes': 0}, (None, None, None)),
    'representation': (
        {'representation_size': 8},
        (None, 'it has no representation layer', 'its pooler is of ViT and DeiT without head'),
    ),
    "Hugging Face's epsilon": (
        GELU | {'norm_epsilon': 1e-12},
        (
            '--set activation=gelu_tanh --set norm_epsilon=1e-06',
            'load it with norm_epsilon=1e-06',
            None,
        ),
    ),
    'CLIP': (
        dict(activation='quick_gelu', norm_epsilon=1e-5, norm_embeddings=True, patch_bias=False),
        ('its patch embedding has a bias', None, 'normalised after the last block alone'),
    ),
}
FORMATS = ('google', 'timm', 'huggingface')


def computed(pretrained, images):
    return np.asarray(jax.jit(pretrained.model.apply)(pretrained.variables, images))


@functools.cache
def original(case):
    """The model, images, and what it makes of them."""
    pretrained = random_weights(depth=1, **CASES[case][0])
    shape = (2, *pretrained.preprocess.image_size, 3)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return pretrained, images, computed(pretrained, images)


def of_google(folder, images):
    return computed(vitjax.load(folder), images)


def of_timm(folder, images):
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    timm = pytest.importorskip('timm', reason="needs pip install 'vitjax[peers]'")
    from originals import as_torch  # which imports PyTorch

    model = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()  # strict
    with torch.no_grad():
        return model(as_torch(images)).numpy()


def of_huggingface(folder, images):
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    from originals import as_torch

    (name,) = json.loads((folder / 'config.json').read_text())['architectures']
    read = getattr(transformers, name).from_pretrained
    model, info = read(folder, output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        found = model.eval()(as_torch(images))
    return (found.logits if 'logits' in found else found.last_hidden_state[:, 0]).numpy()


COMPUTE = {'google': of_google, 'timm': of_timm, 'huggingface': of_huggingface}


@pytest.mark.slow
@pytest.mark.parametrize('format', FORMATS)
@pytest.mark.parametrize('case', CASES)
def test_a_format_computes_the_same_or_says_why_not(case, format, tmp_path):
    pretrained, images, expected = original(case)
    reason = CASES[case][1][FORMATS.index(format)]
    if reason is not None:
        message = f'{format} cannot hold this model: .*{re.escape(reason)}'
        with pytest.raises(UserError, match=message) as error:
            vitjax.save(pretrained, tmp_path / 'one', format=format)
        assert '\n' not in str(error.value)
        assert not list(tmp_path.iterdir())
        return
    vitjax.save(pretrained, tmp_path / 'one', format=format)
    found = COMPUTE[format](tmp_path / 'one', images)
    assert np.abs(found - expected).max() < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ('case', 'format'),
    [
        *[('MAE, GELU of tanh', format) for format in FORMATS],
        *[('DINOv2 with registers, fine-tuned', format) for format in FORMATS[1:]],
        ('distilled', 'timm'),
    ],
)
def test_what_is_read_is_written_as_it_was(case, format, tmp_path):
    vitjax.save(original(case)[0], tmp_path / 'one', format=format)
    loaded = vitjax.load(tmp_path / 'one')
    assert (loaded.model.positions, loaded.labels) == ('learned', original(case)[0].labels)
    vitjax.save(loaded, tmp_path / 'two', format=format)
    assert same(vitjax.load(tmp_path / 'two'), loaded)


def test_transformers_reads_the_format_timm(tmp_path):
    """And so what none of its own models pools as it should."""
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    pytest.importorskip('timm', reason="needs pip install 'vitjax[peers]'")
    transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    from originals import as_torch

    pretrained, images, expected = original('MAE, fine-tuned')
    vitjax.save(pretrained, tmp_path / 'timm', format='timm')
    read = transformers.AutoModelForImageClassification.from_pretrained
    model, info = read(tmp_path / 'timm', output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        found = model.eval()(as_torch(images)).logits.numpy()
    assert np.abs(found - expected).max() < TOLERANCE


def test_a_fixed_table_is_zero_where_no_patch_stands():
    table = position_table('sincos2d_mae', (2, 3), 8, 2)
    assert table.shape == (1, 2 + 6, 8)
    assert not table[:, :2].any()
    np.testing.assert_array_equal(table[0, 2:], sincos2d((2, 3), 8, variant='mae'))
    assert {position_table(name, (2, 3), 8, 0).shape for name in FIXED} == {(1, 6, 8)}
