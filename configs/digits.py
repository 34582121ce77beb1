"""A small Vision Transformer on scikit-learn's 1,797 handwritten digits of 8x8 pixels.

    vitjax train --config vitjax:digits --workdir runs/digits

Test accuracy 0.9889 on the 360 images of the held-out fifth. Training took 71 s, compilation included, as
measured on two cores of an AMD EPYC CPU (Python 3.11, jax 0.10.2, float32). The hyperparameters were chosen
on the last quarter of the training images, with training on the first three quarters: accuracy 0.992 there.

Three choices matter with so few and such small images. Muon made a third of AdamW's errors in the same number
of steps. Rotation, scaling and shifts by fractions of a pixel are used, because crops and shifts by whole
pixels made three times as many errors. The parameters are averaged.
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """Returns the config; the recipe takes no argument."""
    config = base_config()
    config.data.name = 'digits'
    config.data.mean = (0.3,)
    config.data.std = (0.37,)

    config.model.name = 'vit'
    config.model.image_size = 8
    config.model.patch_size = 2
    config.model.in_channels = 1
    config.model.num_classes = 10
    config.model.width = 64
    config.model.depth = 4
    config.model.num_heads = 4
    config.model.mlp_dim = 256
    config.model.pooling = 'mean'

    config.batch_size = 64
    config.steps = 1600
    config.task.label_smoothing = 0.1
    config.augment.rotate = 12.0
    config.augment.scale = 0.15
    config.augment.shift = 1

    config.optimizer.name = 'muon'
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema = 0.998
    config.schedule.name = 'cosine'
    config.schedule.warmup = 100

    config.eval.every = 400
    config.eval.batch_size = 512
    config.checkpoint.every = 400
    return config
