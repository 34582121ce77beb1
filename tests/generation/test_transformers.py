"""The same results as transformers' `generate`, token for token."""

import numpy as np
import pytest

from vitjax.generation import beam_search, greedy

PAD, BOS, EOS = 0, 1, 2
LENGTH = 6

torch = pytest.importorskip('torch', reason='compares with transformers, which needs PyTorch')
transformers = pytest.importorskip('transformers', reason='compares with transformers')


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
    """Sequences without the first token and padded to LENGTH, and scores where a beam has them."""
    encoded = task.model.apply(task.variables, task.source, task.source != PAD, method='encode')
    encoded = np.where(task.source[..., None] != PAD, encoded, 0).sum(axis=1)
    with torch.no_grad():
        found = Recurrent(task).generate(
            torch.full((len(task.source), 1), BOS),
            encoded=torch.tensor(encoded),
            max_length=LENGTH + 1,
            **dict(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD),
            **dict(do_sample=False, use_cache=False, renormalize_logits=True),
            **dict(return_dict_in_generate=True, output_scores=True),
            **options,
        )
    sequences = found.sequences[:, 1:].numpy()
    return np.pad(sequences, [(0, 0), (0, LENGTH - sequences.shape[1])], constant_values=PAD), found


OURS_AND_THEIRS = [
    ({}, {}),
    (
        dict(suppress=(PAD, 4), forced_eos=True),
        dict(bad_words_ids=[[PAD], [4]], forced_eos_token_id=EOS),
    ),
]


@pytest.mark.parametrize(('ours', 'theirs'), OURS_AND_THEIRS)
def test_greedy(problem, ours, theirs):
    for seed in range(4):
        task = problem(seed)
        found = greedy(*task, max_length=LENGTH, bos=BOS, eos=EOS, **ours)
        np.testing.assert_array_equal(found.tokens[:, 0], generate(task, **theirs)[0])


@pytest.mark.parametrize(('ours', 'theirs'), OURS_AND_THEIRS)
@pytest.mark.parametrize(
    ('early_stop', 'early_stopping'), [('exact', 'never'), ('estimate', False), ('full', True)]
)
@pytest.mark.parametrize('length_penalty', [1.0, 2.5, -1.0])
def test_beam_search(problem, ours, theirs, early_stop, early_stopping, length_penalty):
    for seed in range(4):
        task = problem(seed)
        found = beam_search(
            *task,
            **dict(max_length=LENGTH, bos=BOS, eos=EOS, beam_size=4, n_best=3),
            length_penalty=length_penalty,
            length_normalisation='power',
            early_stop=early_stop,
            **ours,
        )
        sequences, result = generate(
            task,
            num_beams=4,
            num_return_sequences=3,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
            **theirs,
        )
        np.testing.assert_array_equal(found.tokens.reshape(-1, LENGTH), sequences)
        np.testing.assert_allclose(found.scores.ravel(), result.sequences_scores, rtol=1e-4)
