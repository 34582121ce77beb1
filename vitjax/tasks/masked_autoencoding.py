"""Masked autoencoding (He et al. 2022): the hidden patches of an image from the visible ones."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from vitjax.data.inputs import ImageData, open_images, unread_images
from vitjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoding:
    """Mean squared error of the predicted pixels of hidden patches; labels are not looked at."""

    metric_names = ('loss',)
    quality_names = ()

    def open_data(
        self, config: ml_collections.ConfigDict, run: Path | None = None, training: bool = True
    ) -> ImageData:
        """The images that `config.data` names."""
        _check_model(config)
        return open_images(config, training)

    def unread_data(self, config: ml_collections.ConfigDict) -> ImageData:
        """The shapes of these images, which are not read."""
        _check_model(config)
        return unread_images(config)

    def metrics(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        batch: dict[str, jax.Array],
        *,
        rngs: dict[str, jax.Array],
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Loss of a batch: image [B, H, W, C] normalised, mask [B] bool.

        In evaluation an image always has the same patches hidden.
        """
        if train:
            rngs = rngs | {'masking': rngs['dropout']}
        result = model.apply(variables, batch['image'], train=train, rngs=rngs)
        error = jnp.square(result['prediction'] - model.target(batch['image']))
        error = error.mean(axis=(2, 3, 4))  # [B, N]
        loss = error.mean(axis=1, where=result['hidden'])  # [B]
        mask = batch['mask']
        total = jnp.where(mask, loss, 0).sum(dtype=jnp.float32)
        return {'loss': jnp.stack([total, mask.sum(dtype=jnp.float32)])}, {}

    def quality(self, model: nn.Module, variables: dict[str, Any], data: ImageData) -> dict:
        """Nothing: the loss says it all."""
        return {}


def _check_model(config: ml_collections.ConfigDict) -> None:
    if 'mask_ratio' not in config.model:
        raise UserError(
            f'config.task.name masked_autoencoding takes a model such as mae_b16, '
            f'not {config.model.name}'
        )
