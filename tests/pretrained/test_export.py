"""Exported files, run by nothing but JAX or onnxruntime."""

import jax
import numpy as np
import pytest

import vitjax as library
from vitjax.errors import UserError
from vitjax.models.registry import create_model
from vitjax.pretrained.layouts.base import Parts, variable_shapes
from vitjax.pretrained.loading import assemble

PREPROCESS = dict(mean=(0.4,), std=(0.25,), crop=1.0, interpolation='bilinear')
SIZES = dict(image_size=(8, 12), patch_size=4, width=8, depth=2, num_heads=2, num_classes=3)
MODELS = {
    'learned': ('vit', SIZES),
    'rotary': ('vit', SIZES | {'positions': 'rotary', 'num_registers': 1, 'scan': True}),
    'fixed': ('vit', SIZES | {'positions': 'sincos2d', 'pooling': 'map', 'activation': 'gelu'}),
    'cnn': ('cnn', {'image_size': 8, 'widths': (4, 6), 'norm': 'batch', 'num_classes': 3}),
    'hybrid': (
        'vit',
        SIZES | {'image_size': (16, 32), 'patch_size': 8, 'stem_depths': (1, 1), 'stem_width': 4},
    ),
    'mae': (
        'mae',
        dict(image_size=4, patch_size=2, width=8, depth=1, num_heads=2, decoder_depth=1),
    ),
}


def pretrained(which):
    name, arguments = MODELS[which]
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32),
        variable_shapes(create_model(name, **arguments)),
    )
    paths = jax.tree.leaves_with_path(variables.pop('params'))
    params = {jax.tree_util.keystr(path, simple=True, separator='/'): x for path, x in paths}
    parts = Parts(name, arguments, params, PREPROCESS, state=variables)
    return assemble(parts, source='', layout='')


def pixels_of(loaded, count):
    shape = (count, *loaded.preprocess.image_size, loaded.preprocess.channels)
    return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


def expected(loaded, pixels):
    return jax.jit(loaded.model.apply)(loaded.variables, loaded.preprocess(pixels))


@pytest.mark.slow
@pytest.mark.parametrize('which', ['rotary', 'cnn'])
def test_stablehlo_takes_any_number_of_images_on_any_platform(which, tmp_path):
    loaded = pretrained(which)
    library.save(loaded, tmp_path / 'model.stablehlo', format='stablehlo')
    exported = jax.export.deserialize(bytearray((tmp_path / 'model.stablehlo').read_bytes()))
    assert set(exported.platforms) == {'cpu', 'cuda', 'rocm', 'tpu'}
    for count in (1, 3):
        pixels = pixels_of(loaded, count)
        np.testing.assert_allclose(exported.call(pixels), expected(loaded, pixels), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # jax2onnx's own
@pytest.mark.parametrize('which', ['learned', 'rotary', 'fixed', 'cnn', 'hybrid'])
def test_onnx_takes_any_number_of_images(which, tmp_path):
    pytest.importorskip('jax2onnx', reason="needs the extra 'onnx'")
    runtime = pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    loaded = pretrained(which)
    library.save(loaded, tmp_path / 'model.onnx', format='onnx')
    session = runtime.InferenceSession(tmp_path / 'model.onnx')
    for count in (1, 3):
        pixels = pixels_of(loaded, count)
        (found,) = session.run(['result'], {'pixels': pixels})
        np.testing.assert_allclose(found, expected(loaded, pixels), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_exported_is_one_line(tmp_path):
    path = tmp_path / 'model'
    with pytest.raises(UserError, match='MAE returns several arrays, and one is exported'):
        library.save(pretrained('mae'), path, format='stablehlo')
    with pytest.raises(UserError, match='unknown format'):
        library.save(pretrained('learned'), path, format='onxn')
    assert not list(tmp_path.iterdir())


def test_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'jax2onnx', None)
    with pytest.raises(UserError, match=r"pip install 'vitjax\[onnx\]'"):
        library.save(pretrained('learned'), tmp_path / 'model.onnx', format='onnx')
