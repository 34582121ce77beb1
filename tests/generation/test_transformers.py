"""The same results as transformers' `generate`, token for token."""

import numpy as np
import pytest

from vitjax.generation import beam_search, greedy

# Taken as 'none', a padding token of 0 would not be transformers' padding.
PAD, BOS, EOS = 5, 1, 2
LENGTH = 6

torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")


class Recurrent(transformers.PreTrainedModel, transformers.GenerationMixin):
    """The model of `problem`, without a cache; the encoded source comes as an argument."""

    config_class = transformers.PretrainedConfig
    main_input_name = 'input_ids'

    def __init__(self, task):
        super().__init__(transformers.PretrainedConfig(vocab_size=task.model.vocab_size))
        self.weights = {
            name: torch.tensor(np.asarray(value))
            for name, value in task.variables['params'].items()
        }
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # tells `generate` the device

    def forward(self, input_ids, encoded, attention_mask=None, **unused):
        state = torch.zeros_like(encoded)
        for tokens in input_ids.T:
            state = state @ self.weights['transition'] + self.weights['target'][tokens] + encoded
            state = torch.tanh(state)
        logits = (state @ self.weights['output'])[:, None]
        return transformers.modeling_outputs.CausalLMOutput(logits=logits)

    def prepare_inputs_for_generation(self, input_ids, encoded, **unused):
        return {'input_ids': input_ids, 'encoded': encoded}


def generate(task, **options):
    """Sequences [B * n, T] without their first token, and scores where beam search gives them."""
    mask = task.source != 0
    encoded = task.model.apply(task.variables, task.source, mask, method='encode')
    with torch.no_grad():
        found = Recurrent(task).generate(
            torch.full((len(task.source), 1), BOS),
            encoded=torch.tensor(np.where(mask[..., None], encoded, 0).sum(axis=1)),
            max_length=LENGTH + 1,
            **dict(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD),
            **dict(do_sample=False, use_cache=False, renormalize_logits=True),
            **dict(return_dict_in_generate=True, output_scores=True),
            **options,
        )
    sequences = np.full((len(found.sequences), LENGTH), PAD)
    sequences[:, : found.sequences.shape[1] - 1] = found.sequences[:, 1:]
    return sequences, found.get('sequences_scores')


TOKENS = dict(max_length=LENGTH, bos=BOS, eos=EOS, pad=PAD)
FREE = ({}, {})
FORCED = (
    dict(suppress=(PAD, 4), forced_eos=True),
    dict(bad_words_ids=[[PAD], [4]], forced_eos_token_id=EOS),
)


@pytest.mark.parametrize(('ours', 'theirs'), [FREE, FORCED])
def test_greedy_equals_transformers(problem, ours, theirs):
    for seed in range(3):
        task = problem(seed)
        found = greedy(*task, task.source != 0, **TOKENS, **ours)
        np.testing.assert_array_equal(found.tokens[:, 0], generate(task, **theirs)[0])


@pytest.mark.parametrize(
    ('early_stop', 'early_stopping', 'length_penalty', 'options'),
    [
        ('exact', 'never', 1.0, FORCED),
        ('exact', 'never', -1.0, FREE),
        ('estimate', False, 1.0, FORCED),
        ('estimate', False, 2.5, FREE),
        ('full', True, 1.0, FORCED),
        ('full', True, 2.5, FREE),
    ],
)
def test_beam_search_equals_transformers(
    problem, early_stop, early_stopping, length_penalty, options
):
    ours, theirs = options
    for seed in range(3):
        task = problem(seed)
        found = beam_search(
            *task,
            task.source != 0,
            **dict(beam_size=4, n_best=3, length_penalty=length_penalty),
            **dict(length_normalisation='power', early_stop=early_stop),
            **TOKENS,
            **ours,
        )
        sequences, scores = generate(
            task,
            **dict(num_beams=4, num_return_sequences=3, length_penalty=length_penalty),
            early_stopping=early_stopping,
            **theirs,
        )
        np.testing.assert_array_equal(found.tokens.reshape(-1, LENGTH), sequences)
        np.testing.assert_allclose(found.scores.ravel(), scores, rtol=1e-4)
