"""Google's files in every spelling, held against a few lines of numpy, and against timm."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from random_weights import random_weights, same

import vitjax
from vitjax.errors import UserError

WIDTH, HEADS, HIDDEN, DEPTH, PATCH, CLASSES = 16, 2, 24, 2, 4, 5
GRID = 3
STEM = 8  # width of a hybrid's stem


def random_file(
    *, cls=True, gap=False, pooling=False, rep=False, positions=True, stem=None, flat=False, bits=0
):
    """A checkpoint of random numbers with the published names and shapes (WIDTH is D)."""
    rng = np.random.default_rng(bits)
    head = WIDTH // HEADS
    channels, patch = 3, PATCH
    shapes = {}

    def dense(name, *shape, bias=None):
        shapes[f'{name}/kernel'] = shape
        shapes[f'{name}/bias'] = bias or shape[-1:]

    def norm(name, shape=(WIDTH,)):
        shapes[f'{name}/scale'] = shapes[f'{name}/bias'] = shape

    def transformer(attention, mlp):
        for part in ('query', 'key', 'value'):
            dense(f'{attention}/{part}', WIDTH, HEADS, head, bias=(HEADS, head))
        dense(f'{attention}/out', HEADS, head, WIDTH)
        dense(f'{mlp}/Dense_0', WIDTH, HIDDEN)
        dense(f'{mlp}/Dense_1', HIDDEN, WIDTH)

    if stem is not None:

        def convolution(name, group_norm, *shape):
            shapes[f'{name}/kernel'] = shape
            norm(group_norm, shape[-1:] if flat else (1, 1, 1, shape[-1]))

        convolution('conv_root', 'gn_root', 7, 7, 3, STEM)
        channels = STEM
        for stage, depth in enumerate(stem):
            inner = STEM * 2**stage
            for unit in range(depth):
                at = f'block{stage + 1}/unit{unit + 1}'
                convolution(f'{at}/conv1', f'{at}/gn1', 1, 1, channels, inner)
                convolution(f'{at}/conv2', f'{at}/gn2', 3, 3, inner, inner)
                convolution(f'{at}/conv3', f'{at}/gn3', 1, 1, inner, 4 * inner)
                if unit == 0:
                    convolution(f'{at}/conv_proj', f'{at}/gn_proj', 1, 1, channels, 4 * inner)
                channels = 4 * inner
        patch = 1
    dense('embedding', patch, patch, channels, WIDTH)
    if cls:
        shapes['cls'] = (1, 1, WIDTH)
    if positions:
        shapes['Transformer/posembed_input/pos_embedding'] = (1, cls + GRID**2, WIDTH)
    for layer in range(DEPTH):
        block = f'Transformer/encoderblock_{layer}'
        norm(f'{block}/LayerNorm_0')
        transformer(f'{block}/MultiHeadDotProductAttention_1', f'{block}/MlpBlock_3')
        norm(f'{block}/LayerNorm_2')
    norm('Transformer/encoder_norm')
    if pooling:
        shapes['MAPHead_0/probe'] = (1, 1, WIDTH)
        transformer('MAPHead_0/MultiHeadDotProductAttention_0', 'MAPHead_0/MlpBlock_0')
        norm('MAPHead_0/LayerNorm_0')
    features = WIDTH
    if rep:
        features = 12
        dense('pre_logits', WIDTH, features)
    dense('head', features, CLASSES)
    return {
        name: (0.3 * rng.normal(size=shape) + name.endswith('scale')).astype(np.float32)
        for name, shape in shapes.items()
    }


def linen(tensors):
    """What flax's `convert_pre_linen` does: modules are counted kind by kind."""
    new = {'LayerNorm_2': 'LayerNorm_1', 'MlpBlock_3': 'MlpBlock_0'}
    new['MultiHeadDotProductAttention_1'] = 'MultiHeadDotProductAttention_0'
    renamed = {}
    for name, tensor in tensors.items():
        parts = [new.get(part, part) for part in name.split('/')]
        renamed['/'.join(parts)] = tensor
    return renamed


def big_vision(tensors):
    old, new = 'Transformer/posembed_input/pos_embedding', 'pos_embedding'
    return {name.replace(old, new): tensor for name, tensor in linen(tensors).items()}


def in_encoder(tensors):
    """big_vision before 2022."""
    old, new = 'Transformer/posembed_input/pos_embedding', 'Transformer/pos_embedding'
    return {name.replace(old, new): tensor for name, tensor in linen(tensors).items()}


def without_class_position(tensors):
    tensors = big_vision(tensors)
    return tensors | {'pos_embedding': tensors['pos_embedding'][:, 1:]}


def scanned(tensors):
    tensors, stacked = big_vision(tensors), {}
    for name, tensor in tensors.items():
        if 'encoderblock_' not in name:
            stacked[name] = tensor
        elif 'encoderblock_0/' in name:
            layers = [tensors[name.replace('_0/', f'_{i}/', 1)] for i in range(DEPTH)]
            stacked[name.replace('encoderblock_0', 'encoderblock')] = np.stack(layers)
    return stacked


def prefixed(prefix, **others):
    def rename(tensors):
        return {f'{prefix}{name}': tensor for name, tensor in tensors.items()} | others

    return rename


def halved(tensors):
    """bfloat16, which numpy stores as raw bytes."""
    return {name: x.astype(ml_dtypes.bfloat16).view('V2') for name, x in tensors.items()}


@dataclasses.dataclass
class Case:
    """A file: what it holds, in which spelling, what `load` has to be told, and what it then knows."""

    holds: dict
    spelling: list = dataclasses.field(default_factory=list)
    told: dict = dataclasses.field(default_factory=dict)
    known: dict = dataclasses.field(default_factory=dict)
    class_position: bool = True


STEP = np.float32(7)
CASES = {
    'published': Case({}, known={'pooling': 'cls', 'num_classes': CLASSES, 'num_heads': HEADS}),
    'representation': Case({'rep': True}, known={'representation_size': 12}),
    'linen': Case({}, [linen], known={'norm_epsilon': 1e-6, 'activation': 'gelu_tanh'}),
    'gap': Case({'cls': False}, [linen], known={'pooling': 'mean'}),
    'optimizer': Case({}, [prefixed('opt/target/', **{'opt/state/step': STEP})]),
    'big_vision': Case({'cls': False}, [big_vision, prefixed('params/', **{'opt/0/count': STEP})]),
    'two towers': Case(
        {'cls': False, 'pooling': True},
        [big_vision, prefixed('params/img/', **{'params/t': STEP, 'params/txt/head/bias': STEP})],
        known={'pooling': 'map'},
    ),
    'scanned': Case({'cls': False, 'rep': True}, [scanned, prefixed('params/')]),
    'tok': Case(
        {},
        [without_class_position, prefixed('params/')],
        known={'prefix_positions': 'none'},
        class_position=False,
    ),
    'old big_vision': Case({}, [in_encoder], known={'prefix_positions': 'class'}),
    'bfloat16': Case({'cls': False}, [scanned, halved]),
    'sincos2d': Case(
        {'cls': False, 'rep': True, 'positions': False},
        [big_vision, prefixed('params/')],
        told={'image_size': GRID * PATCH},
        known={'positions': 'sincos2d'},
    ),
    'root': Case({'stem': ()}, known={'stem_depths': (), 'patch_size': (4, 4)}),
    'hybrid': Case({'stem': (1, 1)}, known={'stem_depths': (1, 1), 'patch_size': (8, 8)}),
    'linen root': Case({'stem': (), 'flat': True}, [linen], known={'stem_width': STEM}),
}
ALL = pytest.mark.parametrize('name', CASES)


@pytest.fixture(scope='session')
def files(tmp_path_factory):
    """Name of a case -> its file, and the tensors as published."""
    folder, made = tmp_path_factory.mktemp('google'), {}

    def make(name):
        if name not in made:
            case, path = CASES[name], folder / f'{name.replace(" ", "_")}.npz'
            published = spelt = random_file(**case.holds)
            for respell in case.spelling:
                spelt = respell(spelt)
            if halved in case.spelling:
                published = {
                    key: x.astype(ml_dtypes.bfloat16).astype(np.float32)
                    for key, x in published.items()
                }
            if not case.class_position:
                published['Transformer/posembed_input/pos_embedding'][:, 0] = 0
            np.savez(path, **spelt)
            made[name] = path, published
        return made[name]

    return make


@pytest.fixture(scope='session')
def loaded(files):
    """Name of a case -> what `vitjax.load` makes of its file."""
    made = {}

    def load(name):
        if name not in made:
            made[name] = vitjax.load(files(name)[0], **CASES[name].told)
        return made[name]

    return load


def images_of(pretrained):
    height, width = pretrained.preprocess.image_size
    return np.random.default_rng(1).normal(size=(2, height, width, 3)).astype(np.float32)


def logits(pretrained, images):
    return np.asarray(jax.jit(pretrained.model.apply)(pretrained.variables, images))


# The published forward pass, from the published names.


def layer_norm(x, scale, bias):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale + bias


def attend(t, at, query, x):
    q, k, v = (
        np.einsum('btd,dhk->bhtk', y, t[f'{at}/{part}/kernel']) + t[f'{at}/{part}/bias'][:, None]
        for part, y in (('query', query), ('key', x), ('value', x))
    )
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    found = weights / weights.sum(-1, keepdims=True) @ v
    return np.einsum('bhtk,hkd->btd', found, t[f'{at}/out/kernel']) + t[f'{at}/out/bias']


def mlp(t, at, x):
    x = x @ t[f'{at}/Dense_0/kernel'] + t[f'{at}/Dense_0/bias']
    x = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x @ t[f'{at}/Dense_1/kernel'] + t[f'{at}/Dense_1/bias']


def windows(x, size, stride, fill=0.0):
    """Windows [B, H', W', C, size, size] of a map, padded as XLA's SAME does."""
    pads = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:3]]
    pads = [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)]
    x = np.pad(x, pads, constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride]


def convolve(t, at, norm, x, stride=1, relu=True):
    kernel = t[f'{at}/kernel']
    kernel = kernel - kernel.mean((0, 1, 2))
    kernel = kernel / (kernel.std((0, 1, 2)) + 1e-5)
    x = np.einsum('byxcij,ijcd->byxd', windows(x, len(kernel), stride), kernel)
    groups = min(32, x.shape[-1] // 2)  # where there are fewer than 64 channels, in pairs
    split = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, variance = (f(split, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    x = ((split - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    x = x * t[f'{norm}/scale'].reshape(-1) + t[f'{norm}/bias'].reshape(-1)
    return np.maximum(x, 0) if relu else x


def resnet(t, x):
    x = convolve(t, 'conv_root', 'gn_root', x, 2)
    x = windows(x, 3, 2, -np.inf).max((-1, -2))
    at = (1, 1)
    while f'block{at[0]}/unit{at[1]}/conv1/kernel' in t:
        unit, stride = f'block{at[0]}/unit{at[1]}', 2 if at[0] > 1 and at[1] == 1 else 1
        y = convolve(t, f'{unit}/conv1', f'{unit}/gn1', x)
        y = convolve(t, f'{unit}/conv2', f'{unit}/gn2', y, stride)
        y = convolve(t, f'{unit}/conv3', f'{unit}/gn3', y, relu=False)
        if f'{unit}/conv_proj/kernel' in t:
            x = convolve(t, f'{unit}/conv_proj', f'{unit}/gn_proj', x, stride, relu=False)
        x = np.maximum(x + y, 0)
        after = f'block{at[0]}/unit{at[1] + 1}/conv1/kernel'
        at = (at[0], at[1] + 1) if after in t else (at[0] + 1, 1)
    return x


def sincos2d(side, width):
    y, x = np.mgrid[:side, :side].reshape(2, -1, 1)
    omega = 10_000.0 ** -np.linspace(0, 1, width // 4)
    return np.concatenate(
        [np.sin(x * omega), np.cos(x * omega), np.sin(y * omega), np.cos(y * omega)], 1
    )


def forward(t, images):
    t = {name: x.astype(np.float64) for name, x in t.items()}
    x = images.astype(np.float64)
    if 'conv_root/kernel' in t:
        x = resnet(t, x)
    kernel = t['embedding/kernel']
    side, patch = x.shape[1] // kernel.shape[0], kernel.shape[0]
    x = x.reshape(len(x), side, patch, side, patch, -1)
    x = np.einsum('byixjc,ijcd->byxd', x, kernel).reshape(len(x), side * side, -1)
    x = x + t['embedding/bias']
    table = 'Transformer/posembed_input/pos_embedding'
    if table not in t:
        x = x + sincos2d(side, x.shape[-1])
    if 'cls' in t:
        x = np.concatenate([np.repeat(t['cls'], len(x), 0), x], 1)
    if table in t:
        x = x + t[table]
    for layer in range(DEPTH):
        block = f'Transformer/encoderblock_{layer}'
        y = layer_norm(x, t[f'{block}/LayerNorm_0/scale'], t[f'{block}/LayerNorm_0/bias'])
        x = x + attend(t, f'{block}/MultiHeadDotProductAttention_1', y, y)
        y = layer_norm(x, t[f'{block}/LayerNorm_2/scale'], t[f'{block}/LayerNorm_2/bias'])
        x = x + mlp(t, f'{block}/MlpBlock_3', y)
    x = layer_norm(x, t['Transformer/encoder_norm/scale'], t['Transformer/encoder_norm/bias'])
    if 'MAPHead_0/probe' in t:
        probe = np.repeat(t['MAPHead_0/probe'], len(x), 0)
        x = attend(t, 'MAPHead_0/MultiHeadDotProductAttention_0', probe, x)
        norm = 'MAPHead_0/LayerNorm_0'
        x = x + mlp(t, 'MAPHead_0/MlpBlock_0', layer_norm(x, t[f'{norm}/scale'], t[f'{norm}/bias']))
        x = x[:, 0]
    else:
        x = x[:, 0] if 'cls' in t else x.mean(1)
    if 'pre_logits/kernel' in t:
        x = np.tanh(x @ t['pre_logits/kernel'] + t['pre_logits/bias'])
    return x @ t['head/kernel'] + t['head/bias']


@pytest.mark.slow
@ALL
def test_every_spelling_computes_what_was_published(files, loaded, name):
    pretrained = loaded(name)
    assert pretrained.info['layout'] == 'google'
    images = images_of(pretrained)
    np.testing.assert_allclose(
        logits(pretrained, images), forward(files(name)[1], images), rtol=0, atol=1e-5
    )
    for argument, value in CASES[name].known.items():
        assert getattr(pretrained.model, argument) == value
    assert (pretrained.preprocess.mean, pretrained.preprocess.std) == ((0.5,), (0.5,))


@ALL
def test_saving_and_loading_is_exact(loaded, tmp_path, name):
    pretrained = loaded(name)
    vitjax.save(pretrained, tmp_path / 'saved', format='google')
    again = vitjax.load(tmp_path / 'saved')
    assert same(again, pretrained)
    assert again.model == pretrained.model
    assert again.preprocess == pretrained.preprocess
    vitjax.save(again, tmp_path / 'run')
    assert same(vitjax.load(tmp_path / 'run'), pretrained)


@pytest.mark.parametrize('name', ['published', 'representation', 'root', 'hybrid'])
def test_a_published_file_comes_back_as_it_was(files, loaded, tmp_path, name):
    vitjax.save(loaded(name), tmp_path / 'saved.npz', format='google')
    with np.load(tmp_path / 'saved.npz') as written, np.load(files(name)[0]) as original:
        assert sorted(written) == sorted(original)
        for key in original:
            np.testing.assert_array_equal(written[key], original[key])


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'written'),
    [
        ('published', False),
        ('published', True),
        ('gap', True),
        ('two towers', False),
        ('two towers', True),
        ('tok', False),
    ],
)
def test_timm_computes_the_same(files, loaded, tmp_path, name, written):
    pytest.importorskip('torch', reason='timm runs on it')
    timm = pytest.importorskip('timm', reason='the other library to load these files')
    import torch

    pretrained, path = loaded(name), files(name)[0]
    if written:
        path = tmp_path / 'saved.npz'
        vitjax.save(pretrained, path, format='google')
    options = {
        'cls': {},
        'mean': {'global_pool': 'avg', 'fc_norm': False},
        'map': {'global_pool': 'map'},
    }
    pooling = options[pretrained.model.pooling]
    other = timm.models.vision_transformer.VisionTransformer(
        img_size=GRID * PATCH,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=HIDDEN / WIDTH,
        num_classes=CLASSES,
        act_layer='gelu_tanh',
        class_token=pretrained.model.pooling == 'cls',
        no_embed_class=pretrained.model.prefix_positions == 'none',
        **pooling,
    )
    other.load_pretrained(str(path))
    images = images_of(pretrained)
    with torch.no_grad():
        expected = other.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits(pretrained, images), expected, rtol=0, atol=1e-5)


def changed(**changes):
    """Name of a tensor (published) -> what becomes of it; None takes it out."""
    tensors = random_file() | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


QUERY = 'Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel'
MISTAKES = {
    'missing': (changed(**{QUERY: None}), f'{QUERY} is missing in the checkpoint, (16, 2, 8) in'),
    'extra': (changed(extra=np.zeros(3)), 'extra is (3,) in the checkpoint, missing in the model'),
    'shape': (changed(**{QUERY: np.zeros((16, 8, 2))}), f'{QUERY} is (16, 8, 2) in the checkpoint'),
    'rank': (changed(cls=np.zeros((2, 2))), 'cls is (2, 2) in the checkpoint, (1, 1, 16) in'),
    'kernel': (
        changed(**{'embedding/kernel': np.zeros(3)}),
        'embedding/kernel is (3,), which are not 4',
    ),
    'no kernel': (changed(**{'embedding/kernel': None}), 'has no tensor embedding/kernel'),
    'integers': (
        changed(**{'head/bias': np.zeros(5, int)}),
        'head/bias is int64, weights are floats',
    ),
    'nan': (
        changed(**{'head/bias': np.full(5, np.nan)}),
        'head/bias holds values that are not finite',
    ),
    'not square': (
        changed(**{'Transformer/posembed_input/pos_embedding': np.zeros((1, 7, WIDTH))}),
        'does not tell image_size: say image_size=... when loading (vitjax convert: --set image_size=',
    ),
    'no layout': ({'weights': np.zeros(3)}, 'is of no known layout'),
}


@pytest.mark.parametrize(('tensors', 'message'), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_file_and_tensor(tmp_path, tensors, message):
    np.savez(tmp_path / 'file.npz', **tensors)
    with pytest.raises(UserError) as error:
        vitjax.load(tmp_path / 'file.npz')
    assert message in str(error.value)
    assert str(tmp_path / 'file.npz') in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'overrides', 'message'),
    [
        ('published', {'num_heads': 4}, 'the call says num_heads=4, the tensors say 2'),
        ('published', {'depth': 3}, 'the call says depth=3, the tensors say 2'),
        ('published', {'nmu_heads': 4}, "unknown argument of vit 'nmu_heads'"),
        ('two towers', {'pooling': 'mean'}, "the call says pooling='mean', the tensors say 'map'"),
        ('sincos2d', {}, 'does not tell image_size'),
        ('sincos2d', {'image_size': 13}, 'patch height 4 does not divide image height 13'),
    ],
)
def test_what_is_said_must_fit_the_tensors(files, name, overrides, message):
    with pytest.raises(UserError) as error:
        vitjax.load(files(name)[0], **overrides)
    assert message in str(error.value)


def test_a_config_that_contradicts_the_tensors(loaded, tmp_path):
    vitjax.save(loaded('published'), tmp_path / 'saved', format='google')
    path = tmp_path / 'saved/config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'image_size': 16}))
    with pytest.raises(UserError, match=r'positions of 9 patches, but an image of \(16, 16\)'):
        vitjax.load(tmp_path / 'saved')


@pytest.mark.parametrize(
    'config',
    [
        '{',
        '[]',
        '{"image_size": "big"}',
        '{"image_size": [12]}',
        '{"labels": 5}',
        '{"preprocess": 5}',
        '{"preprocess": {"mean": "half"}}',
        '{"preprocess": {"depth": 3}}',
        '{"preprocess": {"crop": "all"}}',
    ],
)
def test_a_config_that_is_damaged(files, tmp_path, config):
    (tmp_path / 'model.npz').symlink_to(files('published')[0])
    (tmp_path / 'config.json').write_text(config)
    with pytest.raises(UserError) as error:
        vitjax.load(tmp_path / 'model.npz')
    assert '\n' not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_folder_tells_what_a_file_cannot(tmp_path):
    wide = random_weights(image_size=(8, 16))
    vitjax.save(wide, tmp_path / 'saved', format='google')
    again = vitjax.load(tmp_path / 'saved')
    assert again.model.image_size == (8, 16)
    assert again.labels == wide.labels
    assert again.preprocess == wide.preprocess
    assert same(again, wide)
    vitjax.save(wide, tmp_path / 'saved.npz', format='google')
    with pytest.raises(UserError, match='does not tell image_size'):
        vitjax.load(tmp_path / 'saved.npz')
    assert same(vitjax.load(tmp_path / 'saved.npz', image_size=(8, 16)), wide)
    wide = random_weights(image_size=(4, 36))  # whose 9 patches would make a square
    with pytest.raises(UserError, match=r'write a folder: its image_size is \(4, 36\), and'):
        vitjax.save(wide, tmp_path / 'wide.npz', format='google')


CANNOT = {
    'activation': (
        {'activation': 'gelu'},
        "its activation is 'gelu', and what would be written reads as 'gelu_tanh'; load it with "
        "activation='gelu_tanh' (vitjax convert: --set activation=gelu_tanh) to write one that "
        'computes the same to about 1e-3',
    ),
    'epsilon': (
        {'norm_epsilon': 1e-5},
        'its norm_epsilon is 1e-05, and what would be written reads as 1e-06; load it with norm',
    ),
    'both': (
        {'activation': 'gelu', 'norm_epsilon': 1e-12},
        '--set activation=gelu_tanh --set norm_epsilon=1e-06',
    ),
    'registers': ({'num_registers': 2}, 'has no tensor for register_tokens'),
    'layer_scale': ({'layer_scale': 0.1}, 'has no tensor for encoder/blocks/attention_scale'),
    'rotary': ({'positions': 'rotary'}, "its positions is 'rotary'"),
    'mean': ({'pooling': 'mean', 'class_token': True}, "its pooling is 'mean'"),
    'map': ({'pooling': 'map', 'class_token': True}, 'has none with class token and attention'),
    'other activation': ({'activation': 'silu'}, "is 'silu', and what would be written reads as"),
    'cls_mean': ({'pooling': 'cls_mean'}, "it has no pooling 'cls_mean'"),
    'no QKV bias': ({'qkv_bias': False}, 'queries, keys and values have biases'),
    'no patch bias': ({'patch_bias': False}, 'its patch embedding has a bias'),
    'pad': ({'pad': True, 'image_size': 13}, 'it cuts the image into whole patches'),
}


@pytest.mark.parametrize(('arguments', 'message'), CANNOT.values(), ids=CANNOT)
def test_what_the_layout_cannot_hold_is_said(tmp_path, arguments, message):
    pretrained = random_weights(**arguments)
    with pytest.raises(UserError) as error:
        vitjax.save(pretrained, tmp_path / 'saved', format='google')
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())
