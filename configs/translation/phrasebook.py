"""Korean to English on the generated phrasebook: a toy language with real grammar.

vitjax train --config configs/translation/phrasebook.py --workdir runs/phrasebook
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """The recipe; it takes no argument."""
    config = base_config()
    config.task.name = 'translation'
    config.task.label_smoothing = 0.1
    config.task.sample = 500

    config.data.name = 'phrasebook'
    config.data.eval_split = 'valid'
    config.text.languages = ('ko', 'en')
    config.text.vocab_size = 1500
    config.text.max_length = 64

    config.model.name = 'transformer_tiny'
    config.model.vocab_size = 1500
    config.model.norm_position = 'pre'

    config.batch_size = 32
    config.steps = 800
    config.optimizer.name = 'muon'
    config.optimizer.learning_rate = 1e-2
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema = 0.99
    config.schedule.name = 'cosine'
    config.schedule.warmup = 100

    config.eval.batch_size = 256
    config.checkpoint.every = 400
    return config
