"""draft"""

from vitjax.config import base_config


def get_config(arg=None):
    config = base_config()
    config.model.update(
        name='vit',
        image_size=8,
        patch_size=2,
        in_channels=1,
        num_classes=10,
        width=64,
        depth=4,
        num_heads=4,
        mlp_dim=256,
        pooling='mean',
    )
    config.data.update(name='digits', mean=(0.3,), std=(0.37,))
    config.batch_size = 128
    config.epochs = 5
    config.augment.shift = 1
    config.checkpoint.every = '1 epoch'
    config.eval.every = '1 epoch'
    return config
