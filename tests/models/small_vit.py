"""A tiny ViT for the tests, its images and its variables."""

import functools

import jax
import numpy as np

SMALL = dict(image_size=(4, 6), patch_size=(2, 3), width=8, depth=2, num_heads=2, mlp_dim=12)
B, N, D, L, HEADS, K = 2, 4, 8, 2, 2, 5
IMAGES = np.random.default_rng(1).normal(size=(B, 4, 6, 3)).astype(np.float32)

# Compiling is most of the time of these tests, and what is compiled runs once.
jit = functools.partial(
    jax.jit,
    compiler_options={
        'xla_backend_optimization_level': 0,
        'xla_llvm_disable_expensive_passes': True,
    },
)


def shapes(model, images=IMAGES, **options):
    return jax.eval_shape(
        functools.partial(model.init_with_output, **options), jax.random.key(0), images
    )


def random_variables(model, images=IMAGES):
    """Variables that are all random (at the start a head is zeros); nothing is compiled."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.3, shapes(model, images)[1])


def norm(params, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * params['norm']['scale'] + params['norm']['bias']
