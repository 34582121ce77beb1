"""Korean to English on TED talks (tensorflow-datasets, ted_multi_translate; Qi et al. 2018).

    vitjax train --config vitjax:translation/ted_multi_translate --workdir runs/ted

tensorflow-datasets downloads and prepares the talks on a machine with a network; `config.data.path` is its
folder. The result of this recipe is not measured yet. It uses the model and the training of Vaswani et al.
2017, reduced to one GPU.
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """Returns the config; the recipe takes no argument."""
    config = base_config()
    config.task.name = 'translation'
    config.task.label_smoothing = 0.1
    config.task.sample = 500

    config.data.name = 'tfds:ted_multi_translate'
    config.data.eval_split = 'validation'
    config.text.languages = ('ko', 'en')
    config.text.vocab_size = 16000
    config.text.max_length = 128

    config.model.name = 'transformer_small'
    config.model.vocab_size = 16000
    config.model.norm_position = 'pre'
    config.model.dropout = 0.2

    config.batch_size = 128
    config.epochs = 40
    config.optimizer.name = 'muon'
    config.optimizer.learning_rate = 4e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema = 0.999
    config.schedule.name = 'rsqrt'
    config.schedule.warmup = '1 epoch'
    config.schedule.cooldown = '8 epochs'

    config.precision.compute = 'bfloat16'
    config.eval.every = '4 epochs'
    config.checkpoint.every = '1 epoch'
    config.checkpoint.keep = 5
    return config
