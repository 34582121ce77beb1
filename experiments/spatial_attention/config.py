"""A small CNN on digits that lie somewhere among bits of other digits.

    vitjax train --config experiments/spatial_attention/config.py:DATA --workdir runs/spatial_attention/one

DATA is a folder that `run.py` has written (runs/spatial_attention/data/24). See README.md.
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The recipe; the argument is the folder of the data."""
    config = base_config()
    config.data.name = 'idx'
    config.data.path = arg
    config.data.mean = (0.15,)
    config.data.std = (0.3,)

    config.model.name = 'cnn'
    config.model.image_size = 24
    config.model.in_channels = 1
    config.model.num_classes = 10
    config.model.widths = (24, 48)
    config.model.stage_depth = 2

    config.batch_size = 128
    config.steps = 800
    config.task.label_smoothing = 0.1
    config.optimizer.name = 'muon'
    config.optimizer.learning_rate = 5e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = 80
    config.eval.batch_size = 360
    config.log.every = 100
    config.log.tensorboard = False
    config.checkpoint.every = None
    return config
