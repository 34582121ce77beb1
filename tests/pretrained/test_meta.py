import pytest

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
timm = pytest.importorskip('timm', reason='timm is not installed')
transformers = pytest.importorskip('transformers', reason='transformers is not installed')

import re  # noqa: E402

import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402
from originals import (  # noqa: E402
    as_torch,
    assert_close,
    assert_same_weights,
    computed,
    images_for,
    randomised,
)

import vitjax  # noqa: E402
from vitjax.errors import UserError  # noqa: E402

# Meta's code is not a package. Hugging Face's models of DINOv2 compute what it computes, timm's what
# that of DeiT and MAE does; here their tensors get Meta's names.
DINO = dict(
    image_size=16,
    patch_size=4,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    mlp_ratio=2,
)
META_NAMES = (
    (r'^dinov2(_with_registers)?\.', ''),
    (r'^embeddings\.patch_embeddings\.projection', 'patch_embed.proj'),
    (r'^embeddings\.position_embeddings', 'pos_embed'),
    (r'^embeddings\.', ''),
    (r'^encoder\.layer\.', 'blocks.'),
    (r'\.attention\.o_proj\.', '.attn.proj.'),
    (r'\.layer_scale(\d)\.lambda1', r'.ls\1.gamma'),
    (r'\.mlp\.down_proj', '.mlp.w3'),
    (r'^layernorm', 'norm'),
    (r'^classifier', 'linear_head'),
)


def original(registers=0, **settings):
    name = 'Dinov2WithRegisters' if registers else 'Dinov2'
    name += 'ForImageClassification' if 'num_labels' in settings else 'Model'
    cls = getattr(transformers, name)
    registers = {'num_register_tokens': registers} if registers else {}
    return randomised(cls(cls.config_class(**DINO | registers | settings)))


def as_meta(model):
    """The tensors of a model of Hugging Face's, with Meta's names."""
    state = dict(model.state_dict())
    for name in [name for name in state if re.search(r'q_proj|gate_proj', name)]:
        others = ('q_proj', 'k_proj', 'v_proj') if 'q_proj' in name else ('gate_proj', 'up_proj')
        parts = [state.pop(name.replace(others[0], other)) for other in others]
        joined = name.replace('attention.q_proj', 'attn.qkv').replace('gate_proj', 'w12')
        state[joined] = torch.cat(parts)
    for pattern, name in META_NAMES:
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    return state


def load(tmp_path, state, **overrides):
    safetensors.torch.save_file(state, tmp_path / 'weights.safetensors')
    return vitjax.load(tmp_path / 'weights.safetensors', **overrides)


def outputs(model, images):
    with torch.no_grad():
        tokens = getattr(model, model.base_model_prefix, model)(images).last_hidden_state
        found = {'tokens': tokens, 'logits': tokens[:, 0]}
        return found | ({'logits': model(images).logits} if 'logits' in model(images) else {})


WRAPPERS = {
    'plain': lambda name: name,
    'DDP': lambda name: f'module.{name}',
    'compiled': lambda name: f'_orig_mod.{name}',
    'checkpoint': lambda name: f'model.{name}',
    'teacher': lambda name: f'teacher.backbone.{name}',
    'FSDP chunks': lambda name: re.sub(r'^blocks\.', 'blocks.1.', name),
}


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({}, {'num_heads': 4, 'layer_scale': 1e-5, 'positions': 'learned'}),
        ({'use_swiglu_ffn': True}, {'gated_mlp': True, 'mlp_dim': 48, 'activation': 'silu'}),
        ({'registers': 3}, {'num_registers': 3, 'prefix_positions': 'class'}),
        ({'num_labels': 5}, {'num_classes': 5, 'pooling': 'cls_mean'}),
    ],
)
def test_dinov2(settings, expected, tmp_path):
    model = original(**settings)
    loaded = load(tmp_path, as_meta(model), num_heads=4)
    assert {name: getattr(loaded.model, name) for name in expected} == expected
    assert loaded.preprocess.mean == (0.485, 0.456, 0.406)
    images = images_for(loaded)
    assert_close('meta', computed(loaded, images), outputs(model, as_torch(images)))


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrappers_change_nothing(wrapper, tmp_path):
    state = as_meta(original(registers=2))
    expected = load(tmp_path, state, num_heads=4)
    state = {WRAPPERS[wrapper](name): tensor for name, tensor in state.items()}
    if wrapper == 'teacher':
        student = {name.replace('teacher', 'student'): 2 * x for name, x in state.items()}
        state |= student | {'teacher.dino_head.mlp.0.weight': torch.ones(3, 32)}
    assert_same_weights(load(tmp_path, state, num_heads=4), expected)


def test_heads_are_those_of_dinov2(tmp_path):
    model = original(hidden_size=384, num_attention_heads=6, num_hidden_layers=1)
    assert load(tmp_path, as_meta(model)).model.num_heads == 6


@pytest.mark.parametrize('registers', [0, 2])
def test_positions_of_another_grid_are_those_of_metas_code(registers, tmp_path):
    state = as_meta(original(registers=registers))
    loaded = load(tmp_path, state, num_heads=4, image_size=(24, 20))
    table = state['pos_embed'][:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    if registers:
        options = {'size': (6, 5), 'antialias': True}
    else:
        options = {'scale_factor': (6.1 / 4, 5.1 / 4)}
    table = torch.nn.functional.interpolate(table, mode='bicubic', **options)
    table = table.permute(0, 2, 3, 1).reshape(1, 30, 32)
    expected = torch.cat([state['pos_embed'][:, :1], table], dim=1).numpy()
    np.testing.assert_allclose(loaded.variables['params']['positions'], expected, atol=1e-7)


TINY = dict(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, num_classes=5)


@pytest.mark.parametrize(
    ('architecture', 'changes', 'renamed', 'expected'),
    [
        (
            'deit3_small_patch16_224',
            {},
            (r'\.ls(\d)\.gamma', r'.gamma_\1'),
            {'layer_scale': 1e-5, 'prefix_positions': 'none'},
        ),
        (
            'vit_base_patch16_224',  # fine-tuned by the code of MAE
            {'global_pool': 'avg'},
            (r'^', 'model.'),
            {'pooling': 'mean', 'class_token': True, 'norm_after_pooling': True},
        ),
        ('deit_tiny_distilled_patch16_224', {}, (r'^', 'model.'), {'distillation': 'head'}),
    ],
)
def test_deit_and_mae(architecture, changes, renamed, expected, tmp_path):
    model = randomised(timm.create_model(architecture, **TINY | changes))
    state = {re.sub(*renamed, name): tensor for name, tensor in model.state_dict().items()}
    loaded = load(tmp_path, state, num_heads=4)
    assert {name: getattr(loaded.model, name) for name in expected} == expected
    assert loaded.info['layout'] == 'meta'
    images = images_for(loaded)
    with torch.no_grad():
        theirs = {'logits': model(as_torch(images))}
    assert_close('meta', computed(loaded, images), theirs)


def test_a_checkpoint_of_pytorch(tmp_path):
    state = as_meta(original())
    torch.save({'model': state, 'epoch': 3}, tmp_path / 'weights.pth')
    loaded = vitjax.load(tmp_path / 'weights.pth', num_heads=4)
    assert_same_weights(loaded, load(tmp_path, state, num_heads=4))


def test_head_on_several_blocks_is_refused(tmp_path):
    state = as_meta(original(num_labels=5))
    state['linear_head.weight'] = torch.zeros(5, 5 * 32)
    with pytest.raises(UserError, match='the head sees 160 features of several blocks'):
        load(tmp_path, state, num_heads=4)


def test_with_registers_to_timm_and_back(tmp_path):
    """timm has positions of all tokens before the patches or of none; Hugging Face of the class token."""
    model = original(registers=2)
    loaded = load(tmp_path, as_meta(model), num_heads=4)
    images = images_for(loaded)
    theirs = outputs(model, as_torch(images))
    vitjax.save(loaded, tmp_path / 'timm', format='timm')
    written = timm.create_model(f'local-dir:{tmp_path / "timm"}', pretrained=True).eval()
    with torch.no_grad():
        found = {'tokens': written.forward_features(as_torch(images)).numpy()}
    assert_close('meta to timm', found, {'tokens': theirs['tokens']})

    back = vitjax.load(tmp_path / 'timm')
    assert back.model.num_placed == 3
    with pytest.raises(UserError, match="load the weights with prefix_positions='none'"):
        vitjax.save(back, tmp_path / 'refused', format='huggingface')
    back = vitjax.load(tmp_path / 'timm', prefix_positions='none')
    vitjax.save(back, tmp_path / 'huggingface', format='huggingface')
    cls = transformers.Dinov2WithRegistersModel
    written, info = cls.from_pretrained(tmp_path / 'huggingface', output_loading_info=True)
    assert not any(info.values())
    found = outputs(written.eval(), as_torch(images))
    assert_close('timm to huggingface', found, theirs)
