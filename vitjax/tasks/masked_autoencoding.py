"""Masked autoencoding (He et al. 2022): the hidden patches of an image from the visible ones."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax.data.inputs import Transform
from vitjax.data.transforms import value_of
from vitjax.errors import UserError
from vitjax.files import read_json
from vitjax.tasks.task import Task, name_of


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoding(Task):
    """Mean squared error of the predicted pixels of hidden patches; labels are not looked at."""

    def check_model(self, model: Any) -> None:
        """UserError for a model that does not say what there is to predict."""
        if not hasattr(model, 'target'):
            raise UserError(
                'config.task.name masked_autoencoding takes a model such as mae_b16, '
                f'not a {name_of(model)}'
            )

    def transform(
        self,
        example: Mapping[str, Any],
        rng: np.random.Generator,
        *,
        augment: Transform,
        train: bool,
    ) -> dict[str, Any]:
        """The image of an example alone."""
        return {'image': augment({'image': value_of(example, 'image')}, rng)['image']}

    def loss(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        batch: Mapping[str, jax.Array],
        *,
        rngs: Mapping[str, jax.Array],
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Loss of a batch: image [B, H, W, C] normalised, mask [B] bool.

        In evaluation an image always has the same patches hidden.
        """
        if train:
            rngs = dict(rngs) | {'masking': rngs['dropout']}
        result, state = self.apply(model, variables, batch['image'], train=train, rngs=rngs)
        error = jnp.square(result['prediction'] - model.target(batch['image']))
        error = error.mean(axis=(2, 3, 4))  # [B, N]
        return {'loss': error.mean(axis=1, where=result['hidden'])}, state

    def next_command(self, run: Path) -> list[str]:
        """Fine-tuning on the same data."""
        command = [
            'vitjax',
            'train',
            '--config',
            'vitjax:finetune',
            '--workdir',
            f'{run}-tuned',
        ]
        data = read_json(run / 'config.json')['data']
        keys = [f'--config.data.{key}={data[key]}' for key in ('name', 'path') if data[key]]
        return [*command, f'--config.model.pretrained={run}', *keys]

    def check_predicts(self, model: nn.Module, source: str) -> None:
        """UserError: nothing is classified."""
        raise UserError(f'{source} has no classes; fine-tune it with --config vitjax:finetune')
