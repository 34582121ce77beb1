"""The same Vision Transformer in timm, with the same weights, to be timed beside ours."""

import importlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import linen as nn

from vitjax.data.preprocess import Preprocess
from vitjax.errors import UserError
from vitjax.pretrained import Pretrained, save


def steps_of_timm(
    model: nn.Module,
    variables: Mapping[str, Any],
    preprocess: Preprocess,
    config: ml_collections.ConfigDict,
    batch: Mapping[str, np.ndarray],
) -> dict[str, Callable[[], np.ndarray]]:
    """'forward' and 'train_step' -> what runs it on a batch and returns the logits [B, K].

    Eager, on as many threads as there are cores to run on; the train step is cross-entropy, its gradient
    and AdamW.

    Args:
      model, variables: ours.
      preprocess: that of the weights.
      config: of the run, whose learning rate and weight decay the optimizer takes.
      batch: 'image' [B, H, W, C] uint8 and 'label' [B].

    Raises:
      UserError: timm has no such model, it is not installed, or ours runs not in float32 on a CPU.
    """
    if jax.default_backend() != 'cpu' or config.precision.compute != 'float32':
        raise UserError('it is compared in float32 on a CPU only')
    torch, timm = _import('torch'), _import('timm')
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        weights = jax.device_get(dict(variables))
        ours = Pretrained(model, weights, preprocess, None, {})
        save(ours, Path(folder) / 'timm', format='timm')
        theirs = timm.create_model(f'local-dir:{folder}/timm', pretrained=True)
    optimizer = torch.optim.AdamW(
        theirs.parameters(),
        lr=config.optimizer.learning_rate,
        weight_decay=config.optimizer.weight_decay,
    )
    pixels = preprocess.normalise(np.asarray(batch['image'])).transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.array(pixels))  # [B, C, H, W]
    labels = torch.from_numpy(np.array(batch['label'], np.int64))

    def forward():
        with torch.no_grad():
            return theirs.eval()(images).numpy()

    def train_step():
        optimizer.zero_grad()
        logits = theirs.train()(images)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        return logits.detach().numpy()

    return {'forward': forward, 'train_step': train_step}


def _import(name: str) -> ModuleType:
    """A package that this library measures itself by, and that nothing else in it needs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f'{name} is not installed') from None
