"""Korean to English on the generated phrasebook: a toy language with real grammar.

    vitjax train --config vitjax:translation/phrasebook --workdir runs/phrasebook
    vitjax translate --checkpoint runs/phrasebook "저는 학생입니다."

The test split has 2,864 sentences; each combines words that no training sentence combines. Greedy search
translates 0.968 of them exactly, beam search with 4 beams 0.970. Token accuracy on the valid split, on which
the hyperparameters were chosen, is 0.997. Training took 148 s, compilation included, as measured on two cores
of an AMD EPYC CPU that also ran other programs (Python 3.11, jax 0.10.2, float32). The model has 1.1M
parameters; the 51,700 training pairs are packed into rows of 64 tokens.

Most of the remaining errors are words that occur in few combinations in the training split (인형을 만들다,
"make a doll"), and sentences in which two verbs get the same object.
"""

import ml_collections

from vitjax.config import base_config


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
    """Returns the config; the recipe takes no argument."""
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
