"""draft"""

from vitjax.config import base_config


def get_config(arg=None):
    config = base_config()
    config.model.update(
        name='vit',
        image_size=28,
        patch_size=4,
        in_channels=1,
        num_classes=10,
        width=64,
        depth=6,
        num_heads=2,
        mlp_dim=256,
        pooling='mean',
    )
    config.data.update(
        name='idx', path='/usr/share/datasets/fashion-mnist', mean=(0.286,), std=(0.353,)
    )
    config.batch_size = 128
    config.epochs = 16
    config.optimizer.update(
        name='muon', learning_rate=2e-3, weight_decay=0.05, clip_norm=1.0, ema=0.999
    )
    config.schedule.warmup = '0.5 epochs'
    config.task.label_smoothing = 0.1
    config.augment.shift = 2
    config.augment.flip = True
    config.eval.every = '1 epoch'
    config.checkpoint.every = '1 epoch'
    return config
