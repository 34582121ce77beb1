"""Where a model looks: its attention, laid over the image."""

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
    """What each token of the last block holds of those before the first (Abnar & Zuidema 2020, eq. 1).

    Heads are averaged. Half of a token is what attention brings, the other half itself, which the
    residual stream carries on; the blocks' weights are multiplied one after another.

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
    """Where a model looks in images [B, H, W, C]: 1 where it looks as on average, 2 twice as much.

    The model's `features` say which kind of attention it has (see `vitjax.protocols.HasFeatures`):
    - one array [L, B, h, T, T], of tokens: a Vision Transformer, hybrid or masked autoencoder. Such a
      model also has a method `pooling_weights` and the attributes image_size and patch_size. Of a
      hybrid, `windows` ('patches') says which part of its last map a patch is.
    - a tuple of maps of importance [B, H_i, W_i, maps]: a CNN with spatial attention.

    Returns:
      Name -> [B, H, W] float32, of mean 1 over the image. From attention of tokens, what reaches the
      vector that is classified: 'last block', heads averaged, and 'rollout', through all blocks (as in
      Dosovitskiy et al. 2021, figure 6). From maps their importance, 'stage 1' first, the mean of
      the maps of a stage.

    Raises:
      ValueError: the model has no such attention, or lacks a method.
    """
    check_abilities(model, 'attention_maps', ['features'])
    features = model.apply(variables, images, method='features', attention=True)
    if 'attention' not in features:
        raise UserError(f'features(attention=True) of {type(model).__name__} returns no attention')
    attention = features['attention']
    if not isinstance(attention, (tuple, list)):
        check_abilities(model, 'attention_maps', ['pooling_weights'], ['image_size', 'patch_size'])
        pooled = model.apply(variables, features, method='pooling_weights')  # [B, T]
        prefix = features['prefix'].shape[1]
        looks = {'last block': attention[-1].mean(axis=1), 'rollout': attention_rollout(attention)}
        maps = {
            name: _over_image(model, jnp.einsum('bt,bts->bs', pooled, look)[:, prefix:])
            for name, look in looks.items()
        }
    else:
        size, digits = images.shape[:3], len(str(len(attention)))  # jit sorts names
        maps = {
            f'stage {index:0{digits}}': jax.image.resize(importance.mean(axis=-1), size, 'linear')
            for index, importance in enumerate(attention, 1)
        }
    return {name: x / x.mean(axis=(1, 2), keepdims=True) for name, x in maps.items()}


def _over_image(model: nn.Module, weights: jax.Array) -> jax.Array:
    """Weights of patches [B, N], interpolated between their centres: [B, H, W]."""
    size, patch = as_pair(model.image_size), as_pair(model.patch_size)
    rows, columns = grid_size(size, patch, pad=getattr(model, 'pad', False))
    # What is cut into patches is the image, or a hybrid's last map, of fewer places.
    windows = model.windows() if hasattr(model, 'windows') else {}
    height, width = windows['patches'][0].kernel if 'patches' in windows else patch
    places = tuple(-(-n * of // by) for n, of, by in zip(size, (height, width), patch, strict=True))
    shape = (len(weights), rows * height, columns * width, 1)
    covered = jax.image.resize(weights.reshape(-1, rows, columns, 1), shape, 'linear')
    # What padding added is cut off.
    inside = unpatchify(patchify(covered, (height, width)), places)[..., 0]
    return jax.image.resize(inside, (len(weights), *size), 'linear')


def draw_attention(pretrained: Any, images: Sequence[Any], path: Path) -> None:
    """Writes a picture with a row an image: the image as the model takes it, then its `attention_maps`.

    Colours run from no attention to the highest of each map. Raises as `attention_maps` does, and
    UserError where an image cannot be read or the picture not be written.
    """
    maps_of = jax.jit(functools.partial(attention_maps, pretrained.model))
    rows = []
    for image in images:
        pixels = pretrained.preprocess.pixels(image)  # [H, W, C]
        maps = maps_of(pretrained.variables, pretrained.preprocess.normalise(pixels[None]))
        rows.append((pixels, {name: np.asarray(x[0]) for name, x in maps.items()}))
    names = ['image', *rows[0][1]]
    height, width = as_pair(pretrained.model.image_size)
    proportions = min(max(height / width, 0.25), 4)  # a strip is stretched, to be seen
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
