"""A Vision Transformer on ImageNet-1k, from nothing: the plain baseline of Beyer et al. 2022.

    vitjax train --config configs/imagenet.py --workdir runs/imagenet --config.data.path=FOLDER

FOLDER has train/CLASS/*.JPEG and val/CLASS/*.JPEG, 1,000 classes; or give
--config.data.name=tfds:imagenet2012 --config.data.eval_split=validation. The argument is the name of a
ViT, a hybrid or a CNN, as in configs/imagenet.py:resnet50; without it that is ViT-S/16.
--config.epochs=300 trains longer. Photographs of your own take --config.model.num_classes=N and a
batch_size that suits their number. Of a few hundred it takes longer to learn with RandAugment and mixup
than without (--config.augment.randaugment=None --config.task.mixup=0); from pretrained weights
configs/finetune.py needs far fewer.

Beyer et al. ("Better plain ViT baselines for ImageNet-1k", 2022) report an accuracy above 76 % after 90
epochs and of 80 % after 300, in less than seven hours and a day on a TPU v3-8; with a head of one layer,
as here, 76.7 %. "ViT Baseline Revisited" (ICLR blog posts, 2025) reports 76.9 % in PyTorch with
torchvision's RandAugment and crops, which do what ours do. What ours gives is not measured yet, for
want of ImageNet. On 8 chips of v5e it takes 5 of 16 GiB a chip, and 29 ms a step at the very least, as
`vitjax plan --config configs/imagenet.py --topology v5e:2x4` estimates; the reading of images is measured
in docs/performance.md.
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The recipe; its argument is the model's name."""
    config = base_config()
    config.data.name = 'folder'
    config.data.eval_split = 'val'
    config.data.crop = 224 / 256
    config.augment.crop = (0.05, 1.0)
    config.augment.flip = True
    config.augment.randaugment = (2, 10 / 30)
    config.task.mixup = 0.2

    config.model.name = arg or 'vit_s16'
    config.model.image_size = 224
    config.model.num_classes = 1000
    if 'vit' in config.model.name:
        config.model.positions = 'sincos2d'
        config.model.pooling = 'mean'
    config.precision.compute = 'bfloat16'

    config.batch_size = 1024
    config.epochs = 90
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.schedule.warmup = '8 epochs'  # 10,000 steps

    config.eval.every = '5 epochs'
    config.checkpoint.every = '1 epoch'
    return config
