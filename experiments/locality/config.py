"""Two dots in a row of pixels: what they say lies in both together, at a distance.

    vitjax train --config experiments/locality/config.py:DATA --workdir runs/locality/one

DATA is a folder that `run.py` has written (runs/locality/data/DISTANCE). See README.md.
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

    config.model.name = 'cnn'
    config.model.image_size = (1, 48)
    config.model.in_channels = 1
    config.model.num_classes = 10
    config.model.widths = (32,)
    config.model.kernel_size = (1, 3)
    config.model.stage_depth = 4
    # Statistics over the whole map would tell each filter of what lies beyond its reach.
    config.model.norm = 'none'

    config.batch_size = 128
    config.steps = 500
    config.optimizer.name = 'muon'
    config.optimizer.learning_rate = 2e-2
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = 50
    config.eval.batch_size = 500
    config.log.every = 100
    config.log.tensorboard = False
    config.checkpoint.every = None
    return config
