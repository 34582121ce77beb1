"""Korean to English on the generated phrasebook: a toy language with real grammar.

    vitjax train --config configs/translation/phrasebook.py --workdir runs/phrasebook
    vitjax translate --checkpoint runs/phrasebook "저는 학생입니다."

Of the 2,864 sentences of the test split, all of which combine words that no training sentence combines,
0.968 are translated exactly by greedy search and 0.970 by a beam of 4; token accuracy 0.997 on the valid
split, by which it was chosen. 148 s with compiling, as measured on two cores of an AMD EPYC CPU that had
other work too (Python 3.11, jax 0.10.2, float32); 1.1M parameters, 51,700 training pairs packed into rows
of 64 tokens.

Most of what is left are words of which the training split holds few combinations (인형을 만들다, "make a
doll"), and sentences with two verbs that get the same object twice.
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
