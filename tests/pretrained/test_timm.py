import pytest

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
timm = pytest.importorskip('timm', reason='timm is not installed')


import safetensors.torch  # noqa: E402
from originals import (  # noqa: E402
    as_torch,
    assert_close,
    assert_same_weights,
    computed,
    convert,  # noqa: F401
    images_for,
    randomised,
)
from timm.models import save_for_hf  # noqa: E402

import vitjax  # noqa: E402

TINY = dict(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5)
PLAIN, CLIP, GATED = 'vit_base_patch16_224', 'vit_base_patch16_clip_224', 'vit_giant_patch14_dinov2'
DISTILLED, DEIT3 = 'deit_tiny_distilled_patch16_224', 'deit3_small_patch16_224'
REGISTERS = 'vit_small_patch14_reg4_dinov2'

# Architecture, arguments, and what the loaded model must have.
CASES = {
    'class token': (PLAIN, {}, {'pooling': 'cls', 'activation': 'gelu', 'norm_epsilon': 1e-6}),
    'no head': (PLAIN, {'num_classes': 0}, {'num_classes': 0}),
    'gap': (
        PLAIN,
        {'global_pool': 'avg', 'class_token': False, 'fc_norm': False},
        {'pooling': 'mean', 'class_token': False, 'norm_after_pooling': False},
    ),
    'gap, fc_norm': (
        PLAIN,
        {'global_pool': 'avg'},
        {'pooling': 'mean', 'class_token': True, 'norm_after_pooling': True},
    ),
    'gap with prefix': (
        PLAIN,
        {'global_pool': 'avg', 'fc_norm': False, 'pool_include_prefix': True, 'reg_tokens': 2},
        {'pool_prefix': True},
    ),
    'class token, fc_norm': (PLAIN, {'fc_norm': True}, {'pooling': 'cls'}),
    'map': (PLAIN, {'global_pool': 'map', 'class_token': False}, {'pooling': 'map'}),
    'map with class token': (
        PLAIN,
        {'global_pool': 'map', 'reg_tokens': 1},
        {'pool_prefix': False},
    ),
    'map with prefix': (
        PLAIN,
        {'global_pool': 'map', 'pool_include_prefix': True, 'act_layer': 'gelu_tanh'},
        {'pool_prefix': True, 'activation': 'gelu_tanh'},
    ),
    'registers with positions': (
        PLAIN,
        {'reg_tokens': 3},
        {'num_registers': 3, 'prefix_positions': 'all'},
    ),
    'registers without positions': (
        PLAIN,
        {'reg_tokens': 3, 'no_embed_class': True},
        {'num_registers': 3, 'prefix_positions': 'none'},
    ),
    'registers without class token': (
        PLAIN,
        {'reg_tokens': 2, 'class_token': False, 'global_pool': 'avg', 'no_embed_class': True},
        {'num_registers': 2, 'class_token': False},
    ),
    'no_embed_class': (PLAIN, {'no_embed_class': True}, {'prefix_positions': 'none'}),
    'no positions': (PLAIN, {'pos_embed': 'none'}, {'positions': 'none'}),
    'layer scale, QK-norm, no QKV bias': (
        PLAIN,
        {'init_values': 0.1, 'qk_norm': True, 'qkv_bias': False, 'mlp_ratio': 2.6},
        {'layer_scale': 0.1, 'qk_norm': True, 'qkv_bias': False, 'mlp_dim': 83},
    ),
    'SwiGLU': (
        GATED,
        {'mlp_ratio': 5.0},
        {'gated_mlp': True, 'activation': 'silu', 'mlp_dim': 80, 'layer_scale': 1e-5},
    ),
    'CLIP': (
        CLIP,
        {'act_layer': 'quick_gelu'},
        {
            'norm_embeddings': True,
            'patch_bias': False,
            'activation': 'quick_gelu',
            'norm_epsilon': 1e-5,
        },
    ),
    'gray, not square': (
        PLAIN,
        {'in_chans': 1, 'img_size': (16, 24), 'patch_size': (4, 8)},
        {'in_channels': 1, 'image_size': (16, 24), 'patch_size': (4, 8)},
    ),
    'DeiT distilled': (DISTILLED, {}, {'distillation': 'head'}),
    'DeiT III': (DEIT3, {}, {'prefix_positions': 'none', 'layer_scale': 1e-6}),
    'DINOv2 with registers': (REGISTERS, {}, {'num_registers': 4, 'prefix_positions': 'none'}),
}


def original(architecture, **changes):
    return randomised(timm.create_model(architecture, **(TINY | changes)))


def outputs(model, images):
    with torch.no_grad():
        tokens = model.forward_features(images)
        found = {'logits': model(images), 'tokens': tokens}
        if not hasattr(model, 'head_dist'):  # theirs is of both tokens then
            found['pooled'] = model.forward_head(tokens, pre_logits=True)
    return found


@pytest.mark.parametrize('case', CASES)
def test_computes_what_timm_does_and_timm_reads_what_we_write(case, tmp_path, convert):  # noqa: F811
    architecture, changes, expected = CASES[case]
    model = original(architecture, **changes)
    save_for_hf(model, tmp_path / 'timm', safe_serialization=True)
    loaded = vitjax.load(tmp_path / 'timm')
    assert {name: getattr(loaded.model, name) for name in expected} == expected
    images = images_for(loaded)
    theirs = outputs(model, as_torch(images))
    assert_close('timm', computed(loaded, images), theirs)

    folder, again = convert(loaded, 'timm')
    assert_same_weights(loaded, again)
    written = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    state = safetensors.torch.load_file(folder / 'model.safetensors')
    assert written.load_state_dict(state, strict=True)
    assert_close('timm', outputs(written, as_torch(images)), theirs)
