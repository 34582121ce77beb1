"""Tiny models of other libraries with random weights, and ours held against them."""

import functools
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import vitjax

TOLERANCE = 1e-5

# Names in files of transformers' DINOv2 -> names of Meta's code.
_META_NAMES = (
    (r'^dinov2(_with_registers)?\.', ''),
    (r'^embeddings\.patch_embeddings\.projection', 'patch_embed.proj'),
    (r'^embeddings\.position_embeddings', 'pos_embed'),
    (r'^embeddings\.', ''),
    (r'^encoder\.layer\.', 'blocks.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.layer_scale(\d)\.lambda1', r'.ls\1.gamma'),
    (r'\.mlp\.weights_in\.', '.mlp.w12.'),
    (r'\.mlp\.weights_out\.', '.mlp.w3.'),
    (r'^layernorm', 'norm'),
    (r'^classifier', 'linear_head'),
)

jit = functools.partial(
    jax.jit,
    compiler_options={
        'xla_backend_optimization_level': 0,
        'xla_llvm_disable_expensive_passes': True,
    },
)


def randomised(module):
    """The module with no parameter at its start: nothing is 0, 1 or the same twice."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape)
            # Small tokens, so that the epsilon of the first norm counts.
            small = any(
                part in name for part in ('patch_embed', 'token', 'pos_embed', 'position_emb')
            )
            start = (
                1.0
                if parameter.ndim == 1 and name.endswith(('weight', 'gamma', 'lambda1'))
                else 0.0
            )
            parameter.copy_(start + values * (0.01 if small else 0.2))
    return module.eval()


def images_for(pretrained, batch=2):
    """Random images [B, H, W, C] for a loaded model."""
    height, width = pretrained.preprocess.image_size
    channels = pretrained.model.in_channels
    shape = (batch, height, width, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def as_torch(images):
    """[B, H, W, C] -> a tensor [B, C, H, W]."""
    import torch

    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def computed(pretrained, images):
    """Logits, all tokens after the final norm, and the pooled vector."""

    @jit
    def compute(variables, images):
        features = pretrained.model.apply(variables, images, method='features')
        return pretrained.model.apply(variables, images), features

    logits, features = compute(pretrained.variables, images)
    tokens = np.concatenate([features['prefix'], features['tokens']], axis=1)
    return {'logits': logits, 'tokens': tokens, 'pooled': features['pooled']}


def timm_outputs(model, images):
    """Logits, tokens and the pooled vector of a model of timm, for a tensor of images."""
    import torch

    with torch.no_grad():
        tokens = model.forward_features(images)
        found = {'logits': model(images), 'tokens': tokens}
        if not hasattr(model, 'head_dist'):  # theirs is of both tokens then
            found['pooled'] = model.forward_head(tokens, pre_logits=True)
    return found


def huggingface_outputs(model, images):
    """Logits (or the output of the pooler) and tokens of a model of transformers, for a tensor of images."""
    import torch

    with torch.no_grad():
        found = model(images)
        base = getattr(model, model.base_model_prefix, model)
        tokens = base(images).last_hidden_state
    pooled = found.pooler_output if 'pooler_output' in found else None
    return {'logits': found.logits if pooled is None else pooled, 'tokens': tokens}


def meta_names(tensors):
    """The tensors of Hugging Face's DINOv2, name -> numpy array, with the names of Meta's code."""
    tensors = dict(tensors)
    for name in [name for name in tensors if '.attention.query.' in name]:
        parts = [tensors.pop(name.replace('query', part)) for part in ('query', 'key', 'value')]
        joined = name.replace('attention.attention.query', 'attn.qkv')
        tensors[joined] = np.concatenate(parts)
    for pattern, replacement in _META_NAMES:
        tensors = {re.sub(pattern, replacement, name): x for name, x in tensors.items()}
    return tensors


def assert_close(layout, found, expected):
    """Each of the expected values, float32, within the tolerance; the layout is for the message."""
    for name, value in expected.items():
        value = value.detach().numpy() if hasattr(value, 'detach') else value
        assert found[name].shape == value.shape
        difference = np.abs(np.asarray(found[name]) - value).max()
        assert difference < TOLERANCE, f'{layout}: {name} differ by {difference}'


def assert_same_weights(first, second):
    """Every parameter, to the bit."""
    first, second = (flatten_dict(x.variables['params'], sep='/') for x in (first, second))
    assert first.keys() == second.keys()
    for path, value in first.items():
        np.testing.assert_array_equal(value, second[path], err_msg=path)


@pytest.fixture
def convert(tmp_path):
    """Saves a loaded model in a layout and loads it again: (folder, what was loaded)."""

    def save_and_load(pretrained, layout):
        folder = tmp_path / f'as_{layout}'
        vitjax.save(pretrained, folder, format=layout)
        return folder, vitjax.load(folder)

    return save_and_load
