"""Masked autoencoders with the names of Hugging Face's and of Meta's."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from original_cases import MAE as ORIGINAL
from random_weights import PREPROCESS, random_parameters, same

import vitjax
from vitjax.config import read_config
from vitjax.errors import UserError
from vitjax.models.mae import MAE
from vitjax.models.registry import create_model
from vitjax.pretrained.files import read_tensors, write_tensors
from vitjax.pretrained.layouts import mae, meta, names
from vitjax.pretrained.layouts.base import Checkpoint, Parts, variable_shapes
from vitjax.pretrained.loading import Weights, assemble
from vitjax.tasks.masked_autoencoding import MaskedAutoencoding
from vitjax.training.resolve import resolve, starting_variables

TINY = {
    'image_size': 12,
    'patch_size': 4,
    'width': 16,
    'depth': 2,
    'num_heads': 2,
    'mlp_dim': 24,
    'decoder_width': 8,
    'decoder_depth': 3,
    'decoder_num_heads': 2,
}
HEADS = {'num_heads': 2, 'decoder_num_heads': 2}
TABLES = ('vit.embeddings.position_embeddings', 'decoder.decoder_pos_embed')


def random_mae(**changes):
    arguments = TINY | changes
    params = random_parameters('mae', arguments)
    facts = {'crop': 12 / 13, 'interpolation': 'bicubic'}  # Hugging Face's sizes are whole numbers
    parts = Parts('mae', arguments, params, PREPROCESS | facts)
    return assemble(parts, source='random', layout='vitjax')


# The names of the hub's files -> those that the same tensors have elsewhere.
IN_MEMORY = (
    (r'vit\.encoder\.layer\.', 'vit.layers.'),
    (r'attention\.attention\.(query|key|value)', lambda found: f'attention.{found[1][0]}_proj'),
    (r'attention\.output\.dense', 'attention.o_proj'),
    (r'intermediate\.dense', 'mlp.fc1'),
    (r'output\.dense', 'mlp.fc2'),
)
BY_NEW_VERSIONS = ((r'decoder\.decoder_layers\.', 'decoder.decoder_encoder.layer.'),)
BY_META = (
    (r'^vit\.embeddings\.patch_embeddings\.projection', 'patch_embed.proj'),
    (r'^vit\.embeddings\.position_embeddings', 'pos_embed'),
    (r'^vit\.embeddings\.', ''),
    (r'^vit\.encoder\.layer\.', 'blocks.'),
    (r'^vit\.layernorm', 'norm'),
    (r'^decoder\.decoder_layers\.', 'decoder_blocks.'),
    (r'^decoder\.', ''),
    (r'layernorm_before', 'norm1'),
    (r'layernorm_after', 'norm2'),
    (r'attention\.output\.dense', 'attn.proj'),
    (r'intermediate\.dense', 'mlp.fc1'),
    (r'output\.dense', 'mlp.fc2'),
)


def as_meta(tensors):
    tensors = names.renamed(tensors, BY_META)
    for name in [name for name in tensors if '.attention.query.' in name]:
        parts = [tensors.pop(name.replace('query', part)) for part in ('query', 'key', 'value')]
        tensors[name.replace('attention.attention.query', 'attn.qkv')] = np.concatenate(parts)
    return tensors


@pytest.fixture(scope='module')
def model():
    return random_mae()


@pytest.fixture(scope='module')
def folder(model, tmp_path_factory):
    """Folder of a small model, as Hugging Face has them."""
    path = tmp_path_factory.mktemp('mae') / 'huggingface'
    vitjax.save(model, path, format='huggingface')
    return path


@pytest.fixture(scope='module')
def tensors(folder):
    return read_tensors(folder / 'model.safetensors')


@pytest.fixture
def write(folder, tmp_path):
    """Writes tensors, with the config.json of `folder` and what changes of it beside, if any."""

    def write(tensors, config=None):
        path = tmp_path / 'written'
        path.mkdir()
        write_tensors(path / 'model.safetensors', tensors)
        if config is not None:
            config = json.loads((folder / 'config.json').read_text()) | config
            (path / 'config.json').write_text(json.dumps(config))
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'mlp_dim': None, 'norm_pixels': False, 'mask_ratio': 0.5, 'scan': True},
        {'in_channels': 1, 'activation': 'gelu_tanh', 'norm_epsilon': 1e-5, 'patch_size': 3},
    ],
)
def test_what_is_written_comes_back(changes, tmp_path):
    model = random_mae(**changes)
    vitjax.save(model, tmp_path / 'one', format='huggingface')
    loaded = vitjax.load(tmp_path / 'one')
    assert same(loaded, model)
    assert loaded.preprocess == model.preprocess
    assert loaded.info['config']['task']['name'] == 'masked_autoencoding'
    expected = TINY | changes
    expected |= {name: (expected[name],) * 2 for name in ('image_size', 'patch_size')}
    expected |= {'mlp_dim': expected['mlp_dim'] or 64, 'scan': False}
    assert {name: getattr(loaded.model, name) for name in expected} == expected
    vitjax.save(loaded, tmp_path / 'two', format='huggingface')
    for file in ('model.safetensors', 'config.json', 'preprocessor_config.json'):
        assert (tmp_path / 'one' / file).read_bytes() == (tmp_path / 'two' / file).read_bytes()
    vitjax.save(loaded, tmp_path / 'run')
    again = vitjax.load(tmp_path / 'run')
    assert same(again, model)
    assert again.model == loaded.model


@pytest.mark.parametrize('patterns', [IN_MEMORY, BY_NEW_VERSIONS, IN_MEMORY + BY_NEW_VERSIONS])
def test_every_spelling_of_hugging_face_is_read(patterns, model, tensors, write):
    renamed = names.renamed(tensors, patterns)
    assert len(renamed.keys() - tensors.keys()) >= 16 * 2
    loaded = vitjax.load(write(renamed, {}))
    assert loaded.info['layout'] == 'mae'
    assert same(loaded, model)


@pytest.mark.parametrize('before', ['', 'model.', 'module.', 'model._orig_mod.'])
def test_metas_names_are_read(before, model, tensors, write):
    renamed = {before + name: x for name, x in as_meta(tensors).items()}
    if before.startswith('model.'):
        renamed['epoch'] = np.array(3)  # beside the model in a whole checkpoint
    loaded = vitjax.load(write(renamed), **HEADS)
    assert same(loaded, model)
    assert loaded.model == dataclasses.replace(
        model.model, image_size=(12, 12), patch_size=(4, 4), norm_epsilon=1e-6, norm_pixels=True
    )
    assert loaded.preprocess.mean == (0.485, 0.456, 0.406)


def test_heads_are_those_that_meta_published_or_asked_for(tensors, write):
    wide = random_mae(width=768, decoder_width=512, depth=1, decoder_depth=1, mlp_dim=4)
    stored, _ = mae.write(wide)
    stored = as_meta(stored)
    arguments = mae.read(Checkpoint('wide', stored), {}).arguments
    assert (arguments['num_heads'], arguments['decoder_num_heads']) == (12, 16)
    alone = {
        f'model.{name}': x
        for name, x in stored.items()
        if not name.startswith(('decoder', 'mask_token'))
    }
    assert meta.read(Checkpoint('encoder', alone), {}).arguments['num_heads'] == 12
    path = write(as_meta(tensors))
    message = 'does not tell num_heads and decoder_num_heads: say num_heads=..., decoder_num_heads'
    with pytest.raises(UserError, match=message):
        vitjax.load(path)


def test_a_config_of_defaults_says_enough(tensors, write):
    """transformers leaves out of a config what is as in its class."""
    path = write(tensors)
    (path / 'config.json').write_text('{"model_type": "vit_mae", "image_size": 12}')
    loaded = vitjax.load(path, num_heads=2, decoder_num_heads=2).model
    assert (loaded.norm_pixels, loaded.mask_ratio) == (False, 0.75)
    assert (loaded.norm_epsilon, loaded.activation) == (1e-12, 'gelu')
    with pytest.raises(UserError, match='num_heads 12 does not divide width 16'):
        vitjax.load(path)


def replaced(name, change):
    return lambda tensors: tensors | {name: change(tensors[name])}


def without(name):
    return lambda tensors: {key: x for key, x in tensors.items() if key != name}


BIAS = 'decoder.decoder_layers.1.output.dense.bias'


@pytest.mark.parametrize(
    ('damage', 'config', 'message'),
    [
        (without(BIAS), {}, f'{BIAS} is missing in the checkpoint'),
        (without(TABLES[1]), {}, f'{TABLES[1]} is missing in the checkpoint'),
        (without(TABLES[0]), {}, f'has no tensor {TABLES[0]}'),
        (without('decoder.decoder_embed.weight'), {}, 'decoder.decoder_embed.bias is '),
        (lambda x: x | {'extra': x[BIAS]}, {}, r'extra is \(8,\) in the checkpoint, missing in'),
        (replaced(BIAS, lambda x: x[1:]), {}, rf'{BIAS} is \(7,\) in the checkpoint, \(8,\) in'),
        (replaced(BIAS, lambda x: x * np.nan), {}, f'{BIAS} holds values that are not finite'),
        (replaced(TABLES[0], lambda x: x * np.nan), {}, f'{TABLES[0]} holds values that are not'),
        (replaced(TABLES[0], np.zeros_like), {}, f'{TABLES[0]} is not the sine-cosine table'),
        (replaced(TABLES[1], lambda x: x + 3e-5), {}, 'from which it differs by 3.0e-05'),
        (replaced(TABLES[0], lambda x: x[:, 1:]), {}, 'positions of 8 patches, but an image of'),
        (replaced('decoder.decoder_embed.weight', np.ravel), {}, 'which are not 2 axes'),
        (dict, {'decoder_hidden_size': 16}, 'its config says decoder_width=16, the tensors say 8'),
        (dict, {'num_hidden_layers': 3}, 'its config says depth=3, the tensors say 2'),
        (dict, {'qkv_bias': False}, 'its config says qkv_bias=False, the tensors say True'),
        (dict, {'image_size': 16}, r'positions of 9 patches, but an image of \(16, 16\) has 4 x 4'),
        (dict, {'hidden_act': 'mish'}, "its config says hidden_act='mish'"),
        (dict, {'decoder_num_attention_heads': 3}, 'multiple of 4 and of decoder_num_heads'),
        (dict, {'mask_ratio': 2}, 'mask_ratio must leave some of the 9 patches'),
    ],
)
def test_damage_is_one_line(damage, config, message, tensors, write):
    path = write(damage(dict(tensors)), config)
    with pytest.raises(UserError, match=message) as error:
        vitjax.load(path)
    assert '\n' not in str(error.value)


def test_what_has_no_place_in_our_model(tensors, write):
    narrow = dict(tensors)
    for layer in range(3):
        block = f'decoder.decoder_layers.{layer}'
        narrow[f'{block}.intermediate.dense.weight'] = np.zeros((12, 8), np.float32)
    with pytest.raises(UserError, match='its decoder_mlp_dim is 12, and can only be 32'):
        vitjax.load(write(narrow, {'decoder_intermediate_size': 12}))


def test_tables_of_half_precision_are_rounded(tensors, write):
    halved = {name: x.astype(ml_dtypes.bfloat16) for name, x in tensors.items()}
    loaded = vitjax.load(write(halved, {}))
    expected = halved['decoder.mask_token'].astype(np.float32)
    np.testing.assert_array_equal(loaded.variables['params']['mask_token'], expected)


@pytest.mark.parametrize(
    ('changes', 'format', 'message'),
    [
        ({}, 'google', 'google cannot hold a MAE, only a ViT'),
        ({}, 'timm', 'timm cannot hold a MAE, only a ViT'),
        ({'image_size': (12, 16)}, 'huggingface', 'image_size of vit_mae is a square, not 12 x 16'),
        ({'patch_size': (4, 2)}, 'huggingface', 'patch_size of vit_mae is a square, not 4 x 2'),
    ],
)
def test_a_format_that_cannot_hold_it_says_why(changes, format, message, tmp_path):
    with pytest.raises(UserError, match=message):
        vitjax.save(random_mae(**changes), tmp_path / 'refused', format=format)
    assert not list(tmp_path.iterdir())


def test_another_image_has_positions_of_its_own(model, folder):
    loaded = vitjax.load(folder, image_size=(8, 16), patch_size=4)
    assert loaded.model.image_size == (8, 16)
    assert same(loaded, model)
    for name, value in (('patch_size', 2), ('in_channels', 1)):
        with pytest.raises(UserError, match=f'only the encoder takes another {name}; say num_cla'):
            vitjax.load(folder, **{name: value})


@pytest.mark.parametrize('meta', [False, True])
def test_the_encoder_is_that_of_a_run(meta, model, folder, tensors, write, tmp_path):
    """Fine-tuning starts from what `load` gives where classes are asked for, and from its config."""
    vitjax.save(model, tmp_path / 'run')
    source = write(as_meta(tensors)) if meta else folder
    heads = HEADS if meta else {}
    sizes = {'num_classes': 3, 'image_size': (16, 8), 'patch_size': 2, 'in_channels': 1}
    ours = vitjax.load(tmp_path / 'run', **sizes)
    theirs = vitjax.load(source, **sizes, **heads)
    assert same(theirs, ours)
    if not meta:
        ours, theirs = (
            Weights(x).model(num_classes=0).info['config']['model']
            for x in (tmp_path / 'run', source)
        )
        pairs = ('image_size', 'patch_size')
        assert theirs | dict.fromkeys(pairs) == ours | dict.fromkeys(pairs)


def test_fine_tuning_and_more_pre_training_start_from_it(model, folder):
    said = {'model.pretrained': str(folder), 'model.in_channels': '1', 'data.name': 'digits'}
    config = resolve(read_config('configs/finetune.py', said), needs_classes=True).config
    assert (config.model.name, config.model.pooling) == ('vit', 'mean')
    assert config.model.num_classes == 10
    assert config.data.std == pytest.approx((0.3,))  # of gray images, what holds on average
    origin = {'pretrained': str(folder), 'load': None}
    for arguments in (config.model.to_dict(), {'name': 'mae'} | TINY | origin):
        created = create_model(**{k: v for k, v in arguments.items() if k not in origin})
        shapes = variable_shapes(created)
        found = starting_variables(arguments, None, created, shapes, init=None, inputs=())
        encoder = found['params'].get('vit', found['params'])['encoder']
        expected = model.variables['params']['vit']['encoder']
        assert jax.tree.all(jax.tree.map(np.array_equal, encoder, expected))


def original(tmp_path):
    """A model of Hugging Face's with random weights, and its positions as published models have them."""
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    from originals import randomised
    from recorded import sine_cosine

    model = randomised(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**ORIGINAL)))
    with torch.no_grad():
        for positions in (
            model.vit.embeddings.position_embeddings,
            model.decoder.decoder_pos_embed,
        ):
            positions.copy_(torch.from_numpy(sine_cosine(4, positions.shape[-1])))
    model.save_pretrained(tmp_path / 'new')
    return model


def assert_computes_the_same(loaded, theirs):
    """The same reconstruction and loss where the same patches are hidden."""
    import torch
    from originals import as_torch, assert_close, images_for

    assert isinstance(loaded.model, MAE)
    images = images_for(loaded)

    @jax.jit
    def compute(variables, images):
        metrics, _ = MaskedAutoencoding().metrics(
            loaded.model,
            variables,
            {'image': images, 'mask': np.ones(len(images), bool)},
            rngs={},
            train=False,
        )
        order = loaded.model.apply(variables, images, method='_shuffled')
        return loaded.model.apply(variables, images), metrics['loss'], order

    result, loss, order = compute(loaded.variables, images)
    noise = torch.from_numpy(np.argsort(np.asarray(order)).astype(np.float32))
    with torch.no_grad():
        expected = theirs.eval()(as_torch(images), noise=noise)
    np.testing.assert_array_equal(result['hidden'], expected.mask.numpy() == 1)
    found = {
        'prediction': np.asarray(result['prediction']).reshape(expected.logits.shape),
        'loss': loss[0] / loss[1],
    }
    assert_close('mae', found, {'prediction': expected.logits, 'loss': expected.loss})


@pytest.mark.parametrize('spelling', ['new', 'hub', 'memory', 'meta'])
def test_computes_what_transformers_does(spelling, tmp_path):
    model = original(tmp_path)
    stored = read_tensors(tmp_path / 'new' / 'model.safetensors')
    assert 'decoder.decoder_encoder.layer.2.output.dense.bias' in stored
    hub = {x.replace('decoder_encoder.layer', 'decoder_layers'): y for x, y in stored.items()}
    tensors = {
        'new': stored,
        'hub': hub,
        'memory': {name: x.numpy() for name, x in model.state_dict().items()},
        'meta': as_meta(hub),
    }[spelling]
    source, heads = tmp_path / spelling, {}
    source.mkdir(exist_ok=True)
    write_tensors(source / 'weights.safetensors', tensors)
    if spelling == 'meta':
        heads = {'num_heads': 4, 'decoder_num_heads': 2}
    else:
        model.config.save_pretrained(source)
    loaded = vitjax.load(source / 'weights.safetensors', **heads)
    assert_computes_the_same(loaded, model)


def test_transformers_reads_what_we_write(tmp_path):
    model = original(tmp_path)
    loaded = vitjax.load(tmp_path / 'new')
    vitjax.save(loaded, tmp_path / 'ours', format='huggingface')
    written, info = type(model).from_pretrained(tmp_path / 'ours', output_loading_info=True)
    assert not any(info.values()), info
    assert_computes_the_same(loaded, written)
    theirs, ours = model.config.to_dict(), written.config.to_dict()
    assert {name for name in ours if ours[name] != theirs.get(name)} <= {'_name_or_path'}
