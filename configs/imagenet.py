"""A Vision Transformer on ImageNet-1k from random weights: the baseline of Beyer et al. 2022.

    vitjax train --config vitjax:imagenet --workdir runs/imagenet --config.data.path=FOLDER

FOLDER has train/CLASS/*.JPEG and val/CLASS/*.JPEG with 1,000 classes. With tensorflow-datasets, use
--config.data.name=tfds:imagenet2012 --config.data.eval_split=validation instead. The argument is the name
of a ViT, a hybrid or a CNN, such as vitjax:imagenet:resnet50; the default is ViT-S/16. --config.epochs=300
trains longer. For your own photographs set --config.model.num_classes=N, and a batch_size that suits their
number. With only a few hundred photographs, training with RandAugment and mixup takes longer than without
(--config.augment.randaugment=None --config.task.mixup=0); fine-tuning pretrained weights with
vitjax:finetune needs far fewer photographs.

Beyer et al. ("Better plain ViT baselines for ImageNet-1k", 2022) report an accuracy above 76 % after 90
epochs and of 80 % after 300, in less than seven hours and one day on a TPU v3-8; with a head of one layer,
as here, 76.7 %. "ViT Baseline Revisited" (ICLR blog posts, 2025) reports 76.9 % in PyTorch with
torchvision's RandAugment and crops, which work like those of vitjax. The accuracy of this recipe is not
measured yet, because ImageNet was not available. On 8 chips of TPU v5e a step needs 5 of 16 GiB a chip and
at least 29 ms, as `vitjax plan --config vitjax:imagenet --topology v5e:2x4` estimates. docs/performance.md
in vitjax's repository has the measured speed of reading images.
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """Returns the config; `arg` is the name of the model."""
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
