"""What a masked autoencoder makes of images of which it sees a part."""

from typing import Any

import jax
import jax.numpy as jnp

from vitjax.layers.patches import patchify, unpatchify
from vitjax.models.mae import MAE, patch_statistics


def reconstruct(model: MAE, variables: dict[str, Any], images: jax.Array) -> dict[str, jax.Array]:
    """Images [B, H, W, C], normalised, as the model sees them and as it completes them.

    Which patches are hidden is settled by each image, see `MAE`. A model that predicts normalised patches
    is told the mean and the deviation of those that were hidden, as in the figures of He et al. 2022.

    Returns:
      visible: the images, what is hidden being 0; reconstructed: the visible patches as they are,
      the hidden ones as predicted; hidden: bool. All [B, H, W, C].
    """
    result = model.apply(variables, images)
    patches = patchify(images, model.patch_size)  # [B, N, Ph, Pw, C]
    prediction = result['prediction']
    if model.norm_pixels:
        mean, deviation = patch_statistics(patches)
        prediction = prediction * deviation + mean
    hidden = jnp.broadcast_to(result['hidden'][..., None, None, None], patches.shape)
    pictures = {
        'visible': jnp.where(hidden, 0, patches),
        'reconstructed': jnp.where(hidden, prediction, patches),
        'hidden': hidden,
    }
    return {name: unpatchify(x, model.image_size) for name, x in pictures.items()}
