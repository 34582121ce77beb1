"""Reconstructions of a masked autoencoder."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.analysis.abilities import check_abilities
from vitjax.layers.patches import patchify, unpatchify


def reconstruct(
    model: nn.Module, variables: dict[str, Any], images: jax.Array
) -> dict[str, jax.Array]:
    """Masked images and their reconstructions.

    Args:
      model: a `MAE`, or another model with the attributes image_size and patch_size and the method
        `predicted_pixels` that returns 'prediction' [B, N, Ph, Pw, C] and 'hidden' [B, N] as `MAE` does.
      variables: of the model.
      images: [B, H, W, C] float32, normalised. The pixels of an image determine its mask, see `MAE`.

    Returns:
      'visible': the images with 0 in hidden patches; 'reconstructed': the visible patches of the images and
      the predictions of the hidden ones; 'hidden': the mask, bool. All are [B, H, W, C].

    Raises:
      ValueError: the model lacks one of these methods or attributes.
    """
    check_abilities(model, 'reconstruct', ['predicted_pixels'], ['image_size', 'patch_size'])
    mae: Any = model  # its methods are unknown to type checkers
    result: Any = model.apply(variables, images)
    patches = patchify(images, mae.patch_size)  # [B, N, Ph, Pw, C]
    prediction = mae.predicted_pixels(result['prediction'], images)
    hidden = jnp.broadcast_to(result['hidden'][..., None, None, None], patches.shape)
    pictures = {
        'visible': jnp.where(hidden, 0, patches),
        'reconstructed': jnp.where(hidden, prediction, patches),
        'hidden': hidden,
    }
    return {name: unpatchify(x, mae.image_size) for name, x in pictures.items()}
