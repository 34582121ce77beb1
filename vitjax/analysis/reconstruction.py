"""What a masked autoencoder makes of images of which it sees a part."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.analysis.abilities import check_abilities
from vitjax.layers.patches import patchify, unpatchify


def reconstruct(
    model: nn.Module, variables: dict[str, Any], images: jax.Array
) -> dict[str, jax.Array]:
    """Images [B, H, W, C], normalised, as the model sees them and as it completes them.

    Args:
      model: a `MAE`, or another model with the attributes image_size and patch_size and the method
        `predicted_pixels` that returns 'prediction' [B, N, Ph, Pw, C] and 'hidden' [B, N] as `MAE` does.
      variables: of the model.
      images: [B, H, W, C], normalised. Each determines which of its patches are hidden, see `MAE`.

    Returns:
      visible: the images, what is hidden being 0; reconstructed: the visible patches as they are,
      the hidden ones as predicted; hidden: bool. All [B, H, W, C].

    Raises:
      ValueError: the model lacks one of these.
    """
    check_abilities(model, 'reconstruct', ['predicted_pixels'], ['image_size', 'patch_size'])
    result = model.apply(variables, images)
    patches = patchify(images, model.patch_size)  # [B, N, Ph, Pw, C]
    prediction = model.predicted_pixels(result['prediction'], images)
    hidden = jnp.broadcast_to(result['hidden'][..., None, None, None], patches.shape)
    pictures = {
        'visible': jnp.where(hidden, 0, patches),
        'reconstructed': jnp.where(hidden, prediction, patches),
        'hidden': hidden,
    }
    return {name: unpatchify(x, model.image_size) for name, x in pictures.items()}
