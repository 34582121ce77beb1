"""Attention of an image model: rollout, maps over the image, and pictures of them."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.analysis.abilities import check_abilities
from vitjax.analysis.drawing import new_figure, save_figure
from vitjax.errors import UserError
from vitjax.layers.patches import as_pair, grid_size, patchify, unpatchify


def attention_rollout(attention: jax.Array) -> jax.Array:
    """Attention rollout: how much each input token contributes to each output token.

    Attention is averaged over heads and then with the identity, which stands for the residual connection;
    the matrices of the blocks are multiplied (Abnar & Zuidema 2020, eq. 1).

    Args:
      attention: [L, B, h, T, T], queries before keys; rows sum to 1.

    Returns:
      [B, T, T], rows sum to 1.
    """
    blocks = (attention.mean(axis=2) + jnp.eye(attention.shape[-1])) / 2  # [L, B, T, T]
    return functools.reduce(lambda x, block: jnp.matmul(block, x, precision='highest'), blocks)


def attention_maps(
    model: nn.Module, variables: Mapping[str, Any], images: jax.Array
) -> dict[str, jax.Array]:
    """Attention over the pixels of images, relative to its mean over the image.

    The kind of attention follows from the model's `features` (see `vitjax.protocols.HasFeatures`):
    - an array [L, B, h, T, T] of attention between tokens: a Vision Transformer, hybrid or masked
      autoencoder. The model needs the method `pooling_weights` and the attributes image_size and patch_size.
      For a hybrid, `windows()['patches']` is the part of its last feature map that is a patch.
    - a tuple of spatial attention maps [B, H_i, W_i, maps]: a CNN with spatial attention.

    Args:
      model: with the method `features`.
      variables: of the model.
      images: [B, H, W, C] float32, normalised.

    Returns:
      Name -> [B, H, W] float32, with mean 1 over each image. For attention between tokens, these are the
      contributions to the vector that is classified: 'last block', averaged over heads, and 'rollout',
      through all blocks (as in Dosovitskiy et al. 2021, figure 6). For spatial attention they are 'stage 1'
      and so on, the mean of the maps of each stage.

    Raises:
      ValueError: the model has no such attention, or lacks a method.
    """
    check_abilities(model, 'attention_maps', ['features'])
    features: Any = model.apply(variables, images, method='features', attention=True)
    if 'attention' not in features:
        raise UserError(f'features(attention=True) of {type(model).__name__} returns no attention')
    attention = features['attention']
    if not isinstance(attention, (tuple, list)):
        check_abilities(model, 'attention_maps', ['pooling_weights'], ['image_size', 'patch_size'])
        pooled = model.apply(variables, features, method='pooling_weights')  # [B, T]
        prefix = features['prefix'].shape[1]
        contributions = {
            'last block': attention[-1].mean(axis=1),
            'rollout': attention_rollout(attention),
        }
        maps = {
            name: _over_image(model, jnp.einsum('bt,bts->bs', pooled, weights)[:, prefix:])
            for name, weights in contributions.items()
        }
    else:
        size, digits = images.shape[:3], len(str(len(attention)))  # jit returns names sorted
        maps = {
            f'stage {index:0{digits}}': jax.image.resize(importance.mean(axis=-1), size, 'linear')
            for index, importance in enumerate(attention, 1)
        }
    return {name: x / x.mean(axis=(1, 2), keepdims=True) for name, x in maps.items()}


def _over_image(model: nn.Module, weights: jax.Array) -> jax.Array:
    """Interpolates weights of patches [B, N] linearly between their centres: [B, H, W]."""
    size, patch = as_pair(model.image_size), as_pair(model.patch_size)
    rows, columns = grid_size(size, patch, pad=getattr(model, 'pad', False))
    # The image is divided into patches, or for a hybrid its last feature map, which is smaller.
    windows = model.windows() if hasattr(model, 'windows') else {}
    height, width = windows['patches'][0].kernel if 'patches' in windows else patch
    places = (-(-size[0] * height // patch[0]), -(-size[1] * width // patch[1]))
    shape = (len(weights), rows * height, columns * width, 1)
    covered = jax.image.resize(weights.reshape(-1, rows, columns, 1), shape, 'linear')
    # Padding is removed.
    inside = unpatchify(patchify(covered, (height, width)), places)[..., 0]
    return jax.image.resize(inside, (len(weights), *size), 'linear')


def draw_attention(pretrained: Any, images: Sequence[Any], path: Path) -> None:
    """Writes a picture with one row for each image: the preprocessed image, then its `attention_maps`.

    The colours of a map range from 0 to its maximum.

    Raises:
      ValueError: as `attention_maps`.
      UserError: an image cannot be read, or the picture cannot be written.
    """
    maps_of = jax.jit(functools.partial(attention_maps, pretrained.model))
    rows: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    for image in images:
        pixels = pretrained.preprocess.pixels(image)  # [H, W, C]
        maps = maps_of(pretrained.variables, pretrained.preprocess.normalise(pixels[None]))
        rows.append((pixels, {name: np.asarray(x[0]) for name, x in maps.items()}))
    names = ['image', *rows[0][1]]
    height, width = as_pair(pretrained.model.image_size)
    proportions = min(max(height / width, 0.25), 4)  # a narrow image is stretched
    aspect = 'equal' if proportions == height / width else 'auto'
    figure = new_figure(2 * len(names), 2 * len(rows) * proportions + 0.3)
    for line, (pixels, maps) in zip(
        figure.subplots(len(rows), len(names), squeeze=False), rows, strict=True
    ):
        for axis, name in zip(line, names, strict=True):
            axis.set(xticks=[], yticks=[])
            if name == 'image':
                axis.imshow(pixels, cmap='gray', vmin=0, vmax=255, aspect=aspect)
            else:
                axis.imshow(pixels.mean(axis=-1), cmap='gray', vmin=0, vmax=255)
                axis.imshow(maps[name], cmap='inferno', vmin=0, alpha=0.6, aspect=aspect)
            if pixels is rows[0][0]:
                axis.set_title(name)
    save_figure(figure, path)
