"""Which of two dots in a row of pixels is the brighter one: a question of order.

    vitjax train --config experiments/positions/config.py:DATA --workdir runs/positions/one

DATA is a folder that `run.py` has written (runs/positions/data). See README.md.
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The recipe; the argument is the folder of the data."""
    config = base_config()
    config.data.name = 'idx'
    config.data.path = arg
    config.data.mean = (0.0,)
    config.data.std = (1.0,)

    config.model.name = 'vit'
    config.model.image_size = (1, 24)
    config.model.patch_size = 1
    config.model.in_channels = 1
    config.model.num_classes = 10
    config.model.width = 32
    config.model.depth = 2
    config.model.num_heads = 2
    config.model.pooling = 'mean'

    config.batch_size = 128
    config.steps = 500
    config.optimizer.name = 'muon'
    config.optimizer.learning_rate = 3e-3
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = 50
    config.eval.batch_size = 500
    config.log.every = 100
    config.log.tensorboard = False
    config.checkpoint.every = None
    return config
