"""The same Vision Transformer in timm and transformers, with the same weights, for comparison."""

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


def steps_of_peer(
    peer: str,
    model: nn.Module,
    variables: Mapping[str, Any],
    preprocess: Preprocess,
    config: ml_collections.ConfigDict,
    batch: Mapping[str, np.ndarray],
) -> dict[str, Callable[[], np.ndarray]]:
    """'forward' and 'train_step' -> a function that runs it on a batch and returns the logits [B, K].

    PyTorch runs in eager mode, with as many threads as there are cores. The train step consists of
    cross-entropy, its gradient, and AdamW.

    Args:
      peer: one of `PEERS`.
      model, variables: of vitjax.
      preprocess: of the weights.
      config: of the run; gives the learning rate and weight decay.
      batch: 'image' [B, H, W, C] uint8 and 'label' [B].

    Raises:
      UserError: the peer has no such model or is not installed, or the run is not in float32 on a CPU.
    """
    if jax.default_backend() != 'cpu' or config.precision.compute != 'float32':
        raise UserError('the comparison works in float32 on a CPU only')
    if not getattr(model, 'num_classes', 0):
        raise UserError(f'{type(model).__name__} cannot be compared, only models that classify')
    torch, library = import_peer('torch'), import_peer(peer)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    weights_format, read = PEERS[peer]
    with tempfile.TemporaryDirectory() as folder:
        weights = jax.device_get(dict(variables))
        ours = Pretrained(model, weights, preprocess, None, {})
        save(ours, Path(folder) / 'weights', format=weights_format)
        theirs, logits_of = read(library, f'{folder}/weights')
    optimizer = torch.optim.AdamW(
        theirs.parameters(),
        lr=config.optimizer.learning_rate,
        weight_decay=config.optimizer.weight_decay,
    )
    pixels = preprocess.normalise(np.asarray(batch['image'])).transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.array(pixels))  # [B, C, H, W]
    labels = torch.from_numpy(np.array(batch['label'], np.int64))

    def forward():
        theirs.eval()
        with torch.no_grad():
            return logits_of(images).numpy()

    def train_step():
        theirs.train()
        optimizer.zero_grad()
        logits = logits_of(images)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        return logits.detach().numpy()

    return {'forward': forward, 'train_step': train_step}


def _read_timm(timm: ModuleType, folder: str) -> tuple[Any, Callable[[Any], Any]]:
    model = timm.create_model(f'local-dir:{folder}', pretrained=True)
    return model, model


def _read_transformers(transformers: ModuleType, folder: str) -> tuple[Any, Callable[[Any], Any]]:
    model = transformers.AutoModelForImageClassification.from_pretrained(folder)
    return model, lambda images: model(images).logits


# Package -> the weight format that it reads, and a function (package, folder) -> model, logits function.
PEERS = {'timm': ('timm', _read_timm), 'transformers': ('huggingface', _read_transformers)}


def import_peer(name: str) -> ModuleType:
    """Imports a package that is used for comparison only; UserError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name if name == 'tensorflow' else "'vitjax[peers]'"
        raise UserError(f'{name} is not installed: pip install {package}') from None
