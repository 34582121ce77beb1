"""What surrounds MarianMT's weights: tokenizer, languages, and how its translations are searched."""

import logging
import re
from pathlib import Path
from typing import Any

from vitjax.data.marian import MarianTokenizer
from vitjax.data.text import SearchRules, TextPreprocess
from vitjax.errors import UserError
from vitjax.pretrained.layouts.base import Checkpoint

_EARLY_STOP = {False: 'estimate', True: 'full', 'never': 'exact'}
# What else a generation config may say that changes a translation, and where it changes nothing.
_NEUTRAL = {
    'no_repeat_ngram_size': 0,
    'repetition_penalty': 1.0,
    'min_length': 0,
    'min_new_tokens': None,
    'suppress_tokens': None,
    'num_beam_groups': 1,
}

logger = logging.getLogger(__name__)


def preprocess_of(checkpoint: Checkpoint, arguments: dict[str, Any]) -> TextPreprocess:
    """Tokenizer, languages and rules of search, from the files beside the weights.

    Args:
      arguments: of the model's constructor.

    Raises:
      UserError: files that are missing or damaged, or do not fit the weights or each other.
    """
    folder, config = Path(checkpoint.place).parent, checkpoint.config
    options = checkpoint.sidecars.get('tokenizer_config.json', {})
    if options.get('separate_vocabs'):
        raise UserError(f'{folder} has two vocabularies; only models with one are read')
    tokenizer = MarianTokenizer.load(folder)
    rows = min(arguments['vocab_size'], arguments.get('source_vocab_size') or tokenizer.size)
    if tokenizer.size > rows:
        raise UserError(
            f'{folder}: vocab.json has tokens up to {tokenizer.size - 1}, '
            f'but the embeddings of {checkpoint.place} end at {rows - 1}'
        )
    for key, token in (
        ('pad_token_id', tokenizer.pad),
        ('decoder_start_token_id', tokenizer.bos),
        ('eos_token_id', tokenizer.eos),
    ):
        if config.get(key, token) != token:
            raise UserError(
                f'{folder}: config.json says {key}={config[key]}, vocab.json has it at {token}'
            )
    languages = options.get('source_lang'), options.get('target_lang')
    if not all(isinstance(language, str) for language in languages):
        name = str(config.get('_name_or_path') or folder.resolve().name)
        match = re.search(r'opus-mt-(?:tc-[a-z]+-)?([^-/]+)-([^-/]+)$', name)
        languages = match.groups() if match else ('source', 'target')
    longest = config.get('max_position_embeddings', 512)
    if type(longest) is not int or longest < 2:
        raise UserError(f'{folder}: config.json says max_position_embeddings={longest!r}')
    return TextPreprocess(
        tokenizer, languages, longest, _search(checkpoint, tokenizer.eos, longest)
    )


def _search(checkpoint: Checkpoint, eos: int, longest: int) -> SearchRules:
    """What generation_config.json says, or config.json in its place."""
    name = 'generation_config.json'
    if name not in checkpoint.sidecars:
        name = 'config.json'
    config = {k: v for k, v in checkpoint.sidecars.get(name, {}).items() if v is not None}
    for key, neutral in _NEUTRAL.items():
        if config.get(key, neutral) != neutral:
            logger.warning(
                '%s: %s=%r of %s is not followed', checkpoint.place, key, config[key], name
            )
    suppress = config.get('bad_words_ids', [])
    if not all(isinstance(word, list) and len(word) == 1 for word in suppress):
        raise UserError(f'{checkpoint.place}: bad_words_ids of {name} has words of several tokens')
    if config.get('forced_eos_token_id', eos) not in (eos, [eos]):
        raise UserError(
            f'{checkpoint.place}: forced_eos_token_id of {name} is '
            f'{config["forced_eos_token_id"]}, not the end {eos}'
        )
    stop = config.get('early_stopping', False)
    if stop not in _EARLY_STOP:
        raise UserError(f'{checkpoint.place}: early_stopping is {stop!r} in {name}')
    return SearchRules(
        suppress=tuple(token for (token,) in suppress),
        # Theirs counts the token that the decoder starts from.
        longest=min(config.get('max_length', longest), longest) - 1,
        forced_eos='forced_eos_token_id' in config,
        renormalise=bool(config.get('renormalize_logits', False)),
        length_penalty=float(config.get('length_penalty', 1.0)),
        length_normalisation='power',
        early_stop=_EARLY_STOP[stop],
    )
