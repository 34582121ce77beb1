"""Translation: cross-entropy of the next token of the target, and BLEU of what the model writes itself."""

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from vitjax.config import Count, Range
from vitjax.data.sentences import TextData, open_sentences, unread_sentences
from vitjax.data.text import TextPreprocess
from vitjax.data.tokenizer import normalise
from vitjax.errors import UserError
from vitjax.generation.translation import translate

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Translation:
    """Sentences of one language into another, with teacher forcing.

    Attributes:
      label_smoothing: share of the target that is spread over the vocabulary, in training only
        (Vaswani et al. 2017, section 5.4).
      sample: so many sentences of the evaluation split, spread over it, are translated in each
        evaluation and scored; 0 for none.
      beam_size: of these translations.
    """

    label_smoothing: Annotated[float, Range(0, 0.99)] = 0.0
    sample: Annotated[int, Range(low=0)] = 200
    beam_size: Count = 1

    metric_names = ('loss', 'accuracy')

    @property
    def quality_names(self) -> tuple[str, ...]:
        return ('bleu', 'chrf', 'exact_match') if self.sample else ()

    def open_data(
        self, config: ml_collections.ConfigDict, run: Path | None = None, training: bool = True
    ) -> TextData:
        """The sentence pairs that `config.data` names, tokenised as `config.text` says.

        The tokenizer is that of the run, if there is one already.
        """
        _check_model(config)
        started = run is not None and (run / 'text.json').exists()
        tokenizer = TextPreprocess.load(run).tokenizer if started else None
        return open_sentences(config, tokenizer, training)

    def unread_data(self, config: ml_collections.ConfigDict) -> TextData:
        """The shapes of these sentences, which are not read."""
        _check_model(config)
        return unread_sentences(config)

    def metrics(
        self,
        model: nn.Module,
        variables: dict[str, Any],
        batch: dict[str, jax.Array],
        *,
        rngs: dict[str, jax.Array],
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Loss and accuracy over the tokens that follow another one of their sentence.

        Padding, and what follows the end of a sentence in a packed row, count nowhere. The batch is
        `source` [B, S], `target` [B, T] with its first token, `source_segment`, `target_segment`,
        `source_position`, `target_position`, int, and `mask` [B] bool.
        """
        source_segment, segment = batch['source_segment'], batch['target_segment']
        logits = model.apply(
            variables,
            batch['source'],
            batch['target'][:, :-1],
            segments=(source_segment, segment[:, :-1]),
            positions=(batch['source_position'], batch['target_position'][:, :-1]),
            train=train,
            rngs=rngs,
        )  # [B, T - 1, V]
        labels = batch['target'][:, 1:]
        counts = (segment[:, 1:] == segment[:, :-1]) & (segment[:, 1:] > 0) & batch['mask'][:, None]
        normaliser = jax.nn.logsumexp(logits, axis=-1)  # [B, T - 1]
        loss = normaliser - jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
        if train and self.label_smoothing:
            # As cross-entropy with smoothed labels, which would take an array as large as the logits.
            spread = normaliser - logits.mean(axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * spread
        correct = logits.argmax(-1) == labels
        count = counts.sum(dtype=jnp.float32)

        def total(values):
            return jnp.stack([jnp.where(counts, values, 0).sum(dtype=jnp.float32), count])

        return {'loss': total(loss), 'accuracy': total(correct)}, {}

    def quality(
        self, model: nn.Module, variables: dict[str, Any], data: TextData
    ) -> dict[str, float]:
        """BLEU, chrF++ and the share of exact matches of a sample that the model translates itself.

        sacrebleu measures the first two; its signatures are logged.
        """
        if not self.sample:
            return {}
        import sacrebleu

        count = len(data.evaluation)
        size = min(self.sample, count)
        pairs = [data.references[index * count // size] for index in range(size)]
        found = translate(
            model,
            variables,
            data.preprocess,
            [pair['source'] for pair in pairs],
            beam_size=self.beam_size,
        )
        found = [best[0].text for best in found]
        # As the model has learned to write them: composed Hangul, single spaces.
        wanted = [normalise(pair['target']) for pair in pairs]
        scores = {}
        for name, metric in (('bleu', sacrebleu.BLEU()), ('chrf', sacrebleu.CHRF(word_order=2))):
            scores[name] = metric.corpus_score(found, [wanted]).score
            logger.info('%s of %d sentences: %s', name, len(found), metric.get_signature())
        return scores | {'exact_match': sum(map(str.__eq__, found, wanted)) / len(wanted)}


def _check_model(config: ml_collections.ConfigDict) -> None:
    if 'vocab_size' not in config.model:
        raise UserError(
            f'translation takes a model such as transformer_base, not {config.model.name}'
        )
    if config.model.pretrained is not None:  # whose tokenizer is another
        raise UserError('config.model.pretrained starts models of images, not translation')
