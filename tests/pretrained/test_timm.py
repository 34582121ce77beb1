import pytest

torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
timm = pytest.importorskip('timm', reason="needs pip install 'vitjax[peers]'")

import json  # noqa: E402
import math  # noqa: E402
import re  # noqa: E402

import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402
from original_cases import (  # noqa: E402
    DISTILLED,
    PLAIN,
)
from original_cases import TIMM as CASES  # noqa: E402
from original_cases import TIMM_TINY as TINY  # noqa: E402
from originals import (  # noqa: E402
    as_torch,
    assert_close,
    assert_same_weights,
    computed,
    convert,  # noqa: F401
    images_for,
    randomised,
)
from originals import timm_outputs as outputs  # noqa: E402
from PIL import Image  # noqa: E402
from timm.models import save_for_hf  # noqa: E402

import vitjax  # noqa: E402
from vitjax.errors import UserError  # noqa: E402
from vitjax.pretrained.layouts.base import Checkpoint  # noqa: E402
from vitjax.pretrained.layouts.timm import read  # noqa: E402
from vitjax.pretrained.layouts.timm_config import check_holds  # noqa: E402


def original(architecture, **changes):
    return randomised(timm.create_model(architecture, **(TINY | changes)))


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


@pytest.mark.parametrize(
    ('image_size', 'patch_size'),
    [((24, 16), (4, 4)), ((8, 32), (4, 4)), ((12, 40), (4, 4)), ((32, 32), (8, 16))],
)
@pytest.mark.parametrize('changes', [{}, {'reg_tokens': 2, 'no_embed_class': True}])
def test_another_size_is_had_as_in_timm(image_size, patch_size, changes, tmp_path):
    model = original(PLAIN, **changes)
    save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = vitjax.load(tmp_path, image_size=image_size, patch_size=patch_size)
    model.set_input_size(image_size, patch_size)
    params = loaded.variables['params']
    kernel = params['patch_embedding']['kernel'].transpose(3, 2, 0, 1)
    found = {'positions': params['positions'], 'kernel': kernel}
    expected = {'positions': model.pos_embed, 'kernel': model.patch_embed.proj.weight}
    assert_close('timm, another size', found, expected)


def test_another_size_computes_what_timm_does(tmp_path):
    model = original(PLAIN)
    save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = vitjax.load(tmp_path, image_size=(24, 64), patch_size=(8, 16))
    model.set_input_size((24, 64), (8, 16))
    images = images_for(loaded)
    assert_close('timm, another size', computed(loaded, images), outputs(model, as_torch(images)))


@pytest.mark.parametrize('image_size', [(32, 8), (16, 16), (24, 12)])
def test_the_caller_knows_of_which_grid_the_positions_are(image_size, tmp_path):
    model = original(PLAIN, img_size=image_size)
    path = tmp_path / 'model.safetensors'
    safetensors.torch.save_file(model.state_dict(), path)
    loaded = vitjax.load(path, num_heads=4, image_size=image_size)
    images = images_for(loaded)
    assert_close('timm, its own grid', computed(loaded, images), outputs(model, as_torch(images)))
    # Alone, 8 x 2 patches would be taken for 4 x 4.
    if image_size == (32, 8):
        with pytest.raises(UserError, match='a file alone is not enough'):
            vitjax.save(loaded, tmp_path / 'alone.safetensors', format='timm')


def test_a_distilled_model_without_heads_computes_what_timm_does(tmp_path):
    model = original(DISTILLED)
    save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = vitjax.load(tmp_path, num_classes=0)
    model.reset_classifier(0)
    images = images_for(loaded)
    found = {'vector': computed(loaded, images)['logits']}
    with torch.no_grad():
        assert_close('timm, without heads', found, {'vector': model.eval()(as_torch(images))})


def test_a_state_dict_alone(tmp_path, caplog):
    """What the tensors do not tell is asked for by name."""
    model = original(PLAIN)
    path = tmp_path / 'weights.safetensors'
    safetensors.torch.save_file(model.state_dict(), path)
    with pytest.raises(UserError, match=r'does not tell num_heads: say num_heads=\.\.\. when'):
        vitjax.load(path)
    assert not caplog.messages  # one thing at a time
    loaded = vitjax.load(path, num_heads=4)
    assert 'taking mean (0.485, 0.456, 0.406) and std' in caplog.text
    caplog.clear()
    vitjax.load(path, num_heads=4, mean=(0.5,), std=(0.5,))
    assert not caplog.messages  # what is said is not asked for
    images = images_for(loaded)
    assert_close('timm', computed(loaded, images), outputs(model, as_torch(images)))


def test_preprocessing_and_labels_come_and_go(tmp_path, convert):  # noqa: F811
    labels = ['ant', 'bee', 'cat', 'dog', 'elk']
    told = dict(
        mean=[0.1, 0.2, 0.3],
        std=[0.4, 0.5, 0.6],
        crop_pct=0.94,  # of 16 pixels: 17 are made
        interpolation='bilinear',
        crop_mode='squash',
    )
    config = {'pretrained_cfg': told, 'label_names': labels}
    save_for_hf(original(PLAIN), tmp_path / 'timm', model_config=config, safe_serialization=True)
    loaded = vitjax.load(tmp_path / 'timm')
    assert loaded.labels == tuple(labels)
    assert loaded.preprocess.facts == {
        'mean': (0.1, 0.2, 0.3),
        'std': (0.4, 0.5, 0.6),
        'crop': 16 / 17,
        'interpolation': 'bilinear',
        'squash': True,
    }
    folder, again = convert(loaded, 'timm')
    assert (again.labels, again.preprocess) == (loaded.labels, loaded.preprocess)
    written = timm.create_model(f'local-dir:{folder}', pretrained=True)
    read = timm.data.resolve_model_data_config(written)
    assert math.floor(16 / read.pop('crop_pct')) == 17
    assert {name: read[name] for name in read.keys() & told} == {
        name: value for name, value in told.items() if name != 'crop_pct'
    }
    assert written.pretrained_cfg['label_names'] == labels


@pytest.mark.parametrize('crop', [0.875, 0.89, 1.0])
def test_images_are_seen_as_timm_sees_them(crop, tmp_path):
    model = original(PLAIN, img_size=56)
    # Made 64, 62 and 56 pixels high: with odd numbers timm is half a pixel off the middle.
    config = {'pretrained_cfg': {'crop_pct': crop, 'input_size': [3, 56, 56]}}
    save_for_hf(model, tmp_path, model_config=config, safe_serialization=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    picture = Image.fromarray(pixels).resize((400, 200), Image.Resampling.BICUBIC)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True)
    see = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded))
    expected = see(picture).numpy().transpose(1, 2, 0)
    found = vitjax.load(tmp_path).preprocess(picture)[0]
    assert np.abs(found - expected).max() < 0.05


PLAIN_VITS = {
    name
    for name in timm.list_models(['vit_*', 'deit*', 'flexivit_*', 'eva_large*', 'test_vit*'])
    if timm.models._registry._model_entrypoints[name].__module__.endswith(
        ('vision_transformer', 'deit')
    )
}
# Their blocks are others, or they have no final norm or another than LayerNorm.
OTHERS = re.compile(r'_xp_|_18x2_|_rpn_|_d?pwee_|_dwee_|_dlittle_|radio|intern300m|test_vit4')


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(PLAIN_VITS))
def test_what_the_name_of_an_architecture_tells(name):
    with torch.device('meta'):
        model = timm.create_model(name, depth=1)
    tensors = {key: np.zeros(x.shape, np.float32) for key, x in model.state_dict().items()}
    config = {
        'architecture': name,
        'pretrained_cfg': {'input_size': model.pretrained_cfg['input_size']},
    }
    checkpoint = Checkpoint(name, tensors, {'config.json': config})
    if OTHERS.search(name):
        with pytest.raises(UserError, match=name):
            read(checkpoint, {})
        return
    built = vitjax.create_model('vit', **read(checkpoint, {}).arguments)
    block = model.blocks[0]
    activation = {
        'GELU': 'gelu',
        'GELUTanh': 'gelu_tanh',
        'QuickGELU': 'quick_gelu',
        'SiLU': 'silu',
    }
    assert built.num_heads == block.attn.num_heads
    assert built.activation == activation[type(block.mlp.act).__name__]
    assert built.norm_epsilon == block.norm1.eps
    assert built.pooling == {'token': 'cls', 'avg': 'mean', 'map': 'map'}[model.global_pool]
    assert built.pools_prefix == model.pool_include_prefix
    assert built.num_placed == (0 if model.no_embed_class else model.num_prefix_tokens)
    grid, patch = model.patch_embed.grid_size, model.patch_embed.patch_size
    assert built.image_size == (grid[0] * patch[0], grid[1] * patch[1])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'stem_depths': ()}, 'its ViT has no stem'),
        ({'positions': 'rotary'}, "it has no positions 'rotary'"),
        ({'representation_size': 8}, 'it has no representation layer'),
        ({'pooling': 'cls_mean'}, "it has no pooling 'cls_mean'"),
        ({'patch_bias': False}, 'its patch embedding has a bias unless norm_embeddings'),
        ({'distillation': 'token'}, "it knows no distillation 'token' without a head"),
        ({'distillation': 'head', 'num_registers': 1}, 'only its plain ViT is distilled'),
        ({'distillation': 'head', 'gated_mlp': True}, 'only its plain ViT is distilled'),
        ({'gated_mlp': True, 'pooling': 'map'}, 'no gated MLP with attention pooling'),
        ({'pad': True}, 'it cuts the image into whole patches'),
    ],
)
def test_what_timm_cannot_hold(settings, message):
    tiny = dict(width=8, depth=1, num_heads=2, image_size=16, patch_size=8)
    model = vitjax.create_model('vit', **tiny | settings)
    with pytest.raises(UserError, match=message):
        check_holds(model)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'embed_dim': 48}, 'its config says width=48, the tensors say 32'),
        ({'reg_tokens': 2}, 'its config says num_registers=2, the tensors say 0'),
        ({'img_size': 21}, 'positions of 16 patches, but an image of \\(20, 20\\) has 5 x 5'),
        ({'act_layer': 'mish'}, "its config says act_layer='mish'"),
        ({'init_values': 0.1}, 'blocks.0.ls1.gamma'),
        ({'pos_embed': 'none'}, "its config says positions='none', the tensors say 'learned'"),
    ],
)
def test_a_config_that_contradicts_the_tensors(change, message, tmp_path):
    save_for_hf(original(PLAIN), tmp_path, safe_serialization=True)
    path = tmp_path / 'config.json'
    config = json.loads(path.read_text())
    config['model_args'] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        vitjax.load(tmp_path)


def test_blocks_of_another_kind(tmp_path):
    model = original('vit_base_patch16_rpn_224', img_size=16)
    save_for_hf(model, tmp_path, safe_serialization=True)
    with pytest.raises(UserError, match='is a vit_base_patch16_rpn_224, whose blocks are not'):
        vitjax.load(tmp_path)
