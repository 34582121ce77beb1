"""Checkpoints with the names of Meta's code."""

import re

import numpy as np
import pytest
import recorded
from originals import (
    as_torch,
    assert_close,
    assert_same_weights,
    huggingface_outputs,
    images_for,
    meta_names,
)

import vitjax
from vitjax.errors import UserError
from vitjax.pretrained.files import write_tensors


def state_of(case='DINOv2 with registers'):
    """The tensors of a recorded model with Meta's names, name -> array."""
    return meta_names(recorded.tensors(recorded.read('meta')[1][case]))


def load(tmp_path, state, **overrides):
    write_tensors(tmp_path / 'weights.safetensors', state)
    return vitjax.load(tmp_path / 'weights.safetensors', **overrides)


WRAPPERS = {
    'plain': lambda name: name,
    'DDP': lambda name: f'module.{name}',
    'compiled': lambda name: f'_orig_mod.{name}',
    'checkpoint': lambda name: f'model.{name}',
    'teacher': lambda name: f'teacher.backbone.{name}',
    'FSDP chunks': lambda name: re.sub(r'^blocks\.', 'blocks.1.', name),
}


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrappers_change_nothing(wrapper, tmp_path):
    state = state_of()
    expected = load(tmp_path, state, num_heads=4)
    state = {WRAPPERS[wrapper](name): tensor for name, tensor in state.items()}
    if wrapper == 'teacher':
        student = {name.replace('teacher', 'student'): 2 * x for name, x in state.items()}
        state |= student | {'teacher.dino_head.mlp.0.weight': np.ones((3, 32), np.float32)}
    assert_same_weights(load(tmp_path, state, num_heads=4), expected)


def test_number_of_heads_of_published_widths_is_known(tmp_path):
    case = recorded.read('meta')[1]['DINOv2']
    shapes = {
        name: [12 * n if n in (32, 64) else n for n in x] for name, x in case['tensors'].items()
    }
    state = meta_names(recorded.tensors({'tensors': shapes}))
    assert load(tmp_path, state).model.num_heads == 6  # of width 384


@pytest.mark.parametrize('case', ['DINOv2', 'DINOv2 with registers'])
def test_positions_of_another_grid_are_those_of_metas_code(case, tmp_path):
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    state = state_of(case)
    loaded = load(tmp_path, state, num_heads=4, image_size=(24, 20))
    before, table = np.split(state['pos_embed'], [1], axis=1)
    table = torch.from_numpy(table).reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    if 'registers' in case:
        options = {'size': (6, 5), 'antialias': True}
    else:
        options = {'scale_factor': (6.1 / 4, 5.1 / 4)}
    table = torch.nn.functional.interpolate(table, mode='bicubic', **options)
    table = table.permute(0, 2, 3, 1).reshape(1, 30, 32).numpy()
    expected = np.concatenate([before, table], axis=1)
    np.testing.assert_allclose(loaded.variables['params']['positions'], expected, atol=1e-7)


def test_a_checkpoint_of_pytorch(tmp_path):
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    state = state_of()
    tensors = {name: torch.from_numpy(x) for name, x in state.items()}
    torch.save({'model': tensors, 'epoch': 3}, tmp_path / 'weights.pth')
    loaded = vitjax.load(tmp_path / 'weights.pth', num_heads=4)
    assert_same_weights(loaded, load(tmp_path, state, num_heads=4))


def test_head_on_several_blocks_is_refused(tmp_path):
    state = state_of('DINOv2 with linear head')
    state['linear_head.weight'] = np.zeros((5, 5 * 32), np.float32)
    with pytest.raises(UserError, match='the head sees 160 features of several blocks'):
        load(tmp_path, state, num_heads=4)


def test_with_registers_to_timm_and_back(tmp_path):
    """timm has positions of all tokens before the patches or of none; Hugging Face of the class token."""
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    timm = pytest.importorskip('timm', reason="needs pip install 'vitjax[peers]'")
    transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    loaded = load(tmp_path, state_of(), num_heads=4)
    images = images_for(loaded)
    theirs = recorded.outputs('meta', 'DINOv2 with registers')
    vitjax.save(loaded, tmp_path / 'timm', format='timm')
    written = timm.create_model(f'local-dir:{tmp_path / "timm"}', pretrained=True).eval()
    with torch.no_grad():
        found = {'tokens': written.forward_features(as_torch(images)).numpy()}
    assert_close('meta to timm', found, {'tokens': theirs['tokens']})

    back = vitjax.load(tmp_path / 'timm')
    assert back.model.num_placed == 4
    with pytest.raises(UserError, match="load the weights with prefix_positions='none'"):
        vitjax.save(back, tmp_path / 'refused', format='huggingface')
    back = vitjax.load(tmp_path / 'timm', prefix_positions='none')
    vitjax.save(back, tmp_path / 'huggingface', format='huggingface')
    cls = transformers.Dinov2WithRegistersModel
    written, info = cls.from_pretrained(tmp_path / 'huggingface', output_loading_info=True)
    assert not any(info.values())
    found = huggingface_outputs(written.eval(), as_torch(images))
    expected = {'tokens': theirs['tokens'], 'logits': theirs['logits']}
    assert_close('timm to huggingface', found, expected)
