"""A Vision Transformer on images as large as ImageNet's, to be planned for many chips; never trained.

vitjax plan --config docs/scaling_recipe.py:vit_b16 --topology v5e:4x4 --config.mesh.fsdp=16
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The recipe; its argument is the model's name."""
    config = base_config()
    config.data.name = 'folder'

    config.model.name = arg or 'vit_b16'
    config.model.image_size = 224
    config.model.num_classes = 1000
    config.model.scan = True
    config.precision.compute = 'bfloat16'

    config.batch_size = 1024
    config.epochs = 300
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = 10_000
    return config
