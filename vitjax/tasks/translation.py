"""Translation: cross-entropy of the next token of the target, and BLEU of what the model writes itself."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.config import Count, Range
from vitjax.data.inputs import DataOptions
from vitjax.data.sentences import TextData, open_sentences
from vitjax.data.text import TextPreprocess
from vitjax.data.tokenizer import normalise
from vitjax.errors import UserError
from vitjax.generation.translation import translate
from vitjax.protocols import Decodes
from vitjax.tasks.task import Task, name_of

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Translation(Task):
    """Sentences of one language into another, with teacher forcing.

    Attributes:
      label_smoothing: share of the target that is spread over the vocabulary, in training only
        (Vaswani et al. 2017, section 5.4).
      sample: number of sentences, spread evenly over the evaluation split, that are translated and
        scored in each evaluation; 0 for none.
      beam_size: of these translations.
    """

    label_smoothing: Annotated[float, Range(0, 0.99)] = 0.0
    sample: Annotated[int, Range(low=0)] = 200
    beam_size: Count = 1

    takes_pretrained = False  # the tokenizer of other weights is another

    @property
    def evaluated(self) -> tuple[str, ...]:
        return ('bleu', 'chrf', 'exact_match') if self.sample else ()

    def check_model(self, model: Any) -> None:
        """UserError for a model that writes no sequences."""
        if not isinstance(model, Decodes):
            raise UserError(
                f'translation takes a model such as transformer_base, not a {name_of(model)}'
            )

    def open_data(self, options: DataOptions) -> TextData:
        """The sentence pairs that `config.data` names, tokenised as `config.text` says.

        The tokenizer is that of the run, if there is one already.
        """
        run = options.run
        started = run is not None and (run / 'text.json').exists()
        tokenizer = TextPreprocess.load(run).tokenizer if started else None
        return open_sentences(options, tokenizer)

    def loss(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        batch: Mapping[str, jax.Array],
        *,
        rngs: Mapping[str, jax.Array],
        train: bool,
    ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
        """Loss and accuracy over the tokens that follow another one of their sentence.

        Padding, and what follows the end of a sentence in a packed row, count nowhere. The batch is
        `source` [B, S], `target` [B, T] with its first token, `source_segment`, `target_segment`,
        `source_position`, `target_position`, int, and `mask` [B] bool.
        """
        source_segment, segment = batch['source_segment'], batch['target_segment']
        logits, state = self.apply(
            model,
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
            return jnp.where(counts, values, 0).sum(dtype=jnp.float32), count

        return {'loss': total(loss), 'accuracy': total(correct)}, state

    def evaluate(
        self, model: nn.Module, variables: Mapping[str, Any], data: TextData
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

    def next_command(self, run: Path) -> list[str]:
        """Translating the first sentence of the evaluation split."""
        text = (run / 'examples' / 'source.txt').read_text().strip()
        return ['vitjax', 'translate', '--checkpoint', str(run), text]
