import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest

from vitjax.errors import UserError
from vitjax.generation import beam_search, greedy

PAD, BOS, EOS = 0, 1, 2
LENGTH = 6
TOKENS = dict(max_length=LENGTH, bos=BOS, eos=EOS)
PENALTIES = {
    'gnmt': lambda length, alpha: ((5 + length) / 6) ** alpha,
    'power': lambda length, alpha: length**alpha,
}


def check_equal(found, row, expected):
    """A row's hypotheses are the expected [(score, tokens), ...]."""
    for n, (score, tokens) in enumerate(expected):
        length = int(found.lengths[row, n])
        assert found.tokens[row, n, :length].tolist() == list(tokens)
        assert float(found.scores[row, n]) == pytest.approx(score, rel=1e-4)


def reference(
    follow,
    *,
    beam_size=4,
    n_best=1,
    length_penalty=0.6,
    length_normalisation='gnmt',
    early_stop=None,
):
    """Beam search over lists: [(score, tokens), ...] of one sentence; to the end without `early_stop`."""

    def penalty(length):
        return PENALTIES[length_normalisation](length, length_penalty)

    live, finished = [(0.0, ())], []
    for length in range(1, LENGTH + 1):
        candidates = [
            (total + value, (*tokens, token))
            for total, tokens in live
            for token, value in enumerate(follow(tokens))
            if value > -np.inf
        ]
        candidates = sorted(candidates, key=lambda found: -found[0])[: 2 * beam_size]
        ends = [tokens[-1] == EOS or length == LENGTH for _, tokens in candidates]
        finished += [
            (total / penalty(length), tokens)
            for (total, tokens), end in zip(candidates[:beam_size], ends, strict=False)
            if end
        ]
        finished = sorted(finished, key=lambda found: -found[0])[:beam_size]
        live = [found for found, end in zip(candidates, ends, strict=True) if not end][:beam_size]
        if not live:
            break
        if len(finished) == beam_size and (
            early_stop == 'full'
            or (early_stop == 'estimate' and live[0][0] / penalty(length) <= finished[-1][0])
        ):
            break
    return finished[:n_best]


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(n_best=4, length_normalisation='power', length_penalty=1.0),
        dict(beam_size=3, n_best=3, length_penalty=-1.0),
        dict(beam_size=3, n_best=2, length_penalty=0.0, suppress=(PAD, BOS), forced_eos=True),
    ],
)
def test_beam_search_with_exact_stop_equals_a_search_to_the_end(problem, check_sequences, options):
    allowed = {name: options[name] for name in ('suppress', 'forced_eos') if name in options}
    search = {name: value for name, value in options.items() if name not in allowed}
    for seed in range(3):
        task = problem(seed)
        found = beam_search(*task, **TOKENS, **options)
        check_sequences(task, found, **allowed)
        for row in range(len(task.source)):
            check_equal(found, row, reference(task.following(row, **allowed), **search))


@pytest.mark.parametrize('early_stop', ['estimate', 'full'])
def test_beam_search_with_other_stops_misses_later_hypotheses(problem, early_stop):
    options = dict(beam_size=2, n_best=2, length_penalty=2.0, length_normalisation='power')
    missed = 0
    for seed in range(6):
        task = problem(seed)
        found = beam_search(*task, **TOKENS, **options, early_stop=early_stop)
        for row in range(len(task.source)):
            follow = task.following(row)
            expected = reference(follow, **options, early_stop=early_stop)
            check_equal(found, row, expected)
            missed += expected != reference(follow, **options)
    assert missed


@pytest.mark.parametrize(
    ('normalisation', 'alpha'), [('gnmt', 0.6), ('gnmt', 0.0), ('power', 1.0), ('power', -0.5)]
)
def test_beam_search_with_a_full_beam_finds_the_best_of_all_sequences(
    problem, normalisation, alpha
):
    length, vocabulary = 4, 4
    others = [token for token in range(vocabulary) if token != EOS]
    sequences = [
        (*start, EOS)
        for start_length in range(length)
        for start in itertools.product(others, repeat=start_length)
    ]
    sequences += itertools.product(others, repeat=length)
    task = problem(vocab_size=vocabulary)
    # Four times 3 ** 2 prefixes, so that no sequence of 3 tokens is left out.
    found = beam_search(
        *task,
        **TOKENS | dict(max_length=length),
        beam_size=36,
        n_best=6,
        length_penalty=alpha,
        length_normalisation=normalisation,
    )
    for row in range(len(task.source)):
        scored = [
            (
                task.log_probability(row, tokens) / PENALTIES[normalisation](len(tokens), alpha),
                tokens,
            )
            for tokens in sequences
        ]
        check_equal(found, row, sorted(scored, reverse=True)[:6])


@pytest.mark.parametrize('options', [{}, dict(suppress=(PAD,), forced_eos=True)])
def test_beam_search_with_one_beam_equals_greedy(problem, options):
    task = problem()
    expected = greedy(*task, **TOKENS, **options)
    found = beam_search(*task, **TOKENS, **options, beam_size=1, length_penalty=0.0)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_beam_search_rows_are_independent(problem):
    task = problem()
    found = beam_search(*task, **TOKENS)
    shortest = (task.source != PAD).sum(axis=1).argmin()
    cases = [(row, source) for row, source in enumerate(task.source)]
    cases.append((shortest, task.source[shortest][task.source[shortest] != PAD]))
    for row, source in cases:
        alone = beam_search(task.model, task.variables, source[None], **TOKENS)
        np.testing.assert_array_equal(alone.tokens[0], found.tokens[row])
        np.testing.assert_allclose(alone.scores[0], found.scores[row], rtol=1e-4)


def test_beam_search_fills_missing_hypotheses_with_empty_ones(problem):
    """Of two allowed tokens and three places there are four sequences."""
    task = problem(vocab_size=4)
    options = dict(suppress=(PAD, BOS), beam_size=6, n_best=6)
    found = beam_search(*task, **TOKENS | dict(max_length=3), **options)
    assert (found.lengths[:, :4] > 0).all()
    assert np.isfinite(found.scores[:, :4]).all()
    assert (found.lengths[:, 4:] == 0).all()
    assert (found.tokens[:, 4:] == PAD).all()
    assert (found.scores[:, 4:] == -np.inf).all()


@pytest.mark.parametrize('early_stop', ['exact', 'estimate', 'full'])
def test_beam_search_stops_early(problem, early_stop):
    steps = []
    task = problem(on_step=lambda: steps.append(1))
    options = dict(length_penalty=0.0, early_stop=early_stop)
    found = beam_search(
        *(task.model, task.variables, task.source[:3]), **TOKENS | dict(max_length=50), **options
    )
    jax.effects_barrier()
    assert found.lengths.max() <= len(steps) < 50


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(n_best=5), 'n_best is 5 with beam_size 4'),
        (dict(beam_size=0), 'beam_size 0'),
        (dict(early_stop='ful'), "unknown early_stop 'ful'; did you mean 'full'"),
        (dict(length_normalisation='none'), 'unknown length_normalisation'),
        (dict(max_length=0), 'max_length is 0'),
    ],
)
def test_beam_search_refuses_options_out_of_range(problem, options, message):
    with pytest.raises(UserError, match=message):
        beam_search(*problem(), **TOKENS | options)


ON_EIGHT_DEVICES = """
import jax, jax.numpy as jnp
from vitjax.generation import beam_search
from vitjax.models.registry import create_model

model = create_model('transformer_tiny', vocab_size=20, encoder_depth=1, decoder_depth=1)
source = jnp.array([[5, 6, 7, 3]])
variables = jax.jit(model.init)(jax.random.key(0), source, source)
with jax.set_mesh(jax.make_mesh((8,), ('data',))):
    found = beam_search(model, variables, source, max_length=4, bos=2, eos=3, beam_size=4)
print(found.tokens.shape)
"""


def test_beam_search_of_one_sentence_on_eight_devices(environment):
    # In a process of its own, which XLA would end.
    words = [sys.executable, '-c', ON_EIGHT_DEVICES]
    variables = environment(devices=8)
    process = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert process.stdout == '(1, 1, 4)\n', process.stderr
