"""A CNN, a hybrid, a CNN with spatial attention and a ViT of 0.3M parameters on Fashion-MNIST.

    vitjax train --config experiments/cnn_vs_vit/config.py:MODEL --workdir runs/cnn_vs_vit/one

MODEL is cnn, hybrid, spatial_attention or vit. See README.md.
"""

import ml_collections

from vitjax.config import base_config
from vitjax.errors import unknown

MODELS = {
    'cnn': {'name': 'cnn', 'widths': (32, 64, 128), 'stage_depth': 2},
    'spatial_attention': {
        'name': 'cnn',
        'widths': (32, 64, 128),
        'stage_depth': 2,
        'spatial_attention': 'sigmoid',
    },
    # On enlarged images, so that its stem, whose stride is 4, keeps detail: 2x2 of its 12x12 places are
    # a patch.
    'hybrid': {
        'name': 'vit',
        'image_size': 48,
        'stem_depths': (3,),
        'stem_width': 32,
        'patch_size': 8,
        'width': 64,
        'depth': 4,
        'num_heads': 2,
        'pooling': 'mean',
    },
    'vit': {
        'name': 'vit',
        'patch_size': 4,
        'width': 64,
        'depth': 6,
        'num_heads': 2,
        'pooling': 'mean',
    },
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The recipe of a model."""
    if arg not in MODELS:
        raise unknown('model of this recipe', str(arg), MODELS)
    config = base_config()
    config.data.name = 'idx'
    config.data.path = '/usr/share/datasets/fashion-mnist'
    config.data.mean = (0.286,)
    config.data.std = (0.353,)
    config.model = {'image_size': 28, 'in_channels': 1, 'num_classes': 10} | MODELS[arg]

    config.batch_size = 128
    config.epochs = 10
    config.task.label_smoothing = 0.1
    config.augment.shift = config.model.image_size // 14
    config.augment.flip = True

    config.optimizer.name = 'muon'
    config.optimizer.learning_rate = 6e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema = 0.999
    config.schedule.warmup = 200

    config.eval.batch_size = 500
    config.log.every = 100
    config.log.tensorboard = False
    config.checkpoint.every = '1 epoch'
    return config
