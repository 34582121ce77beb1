import functools

import jax
import numpy as np
import pytest

from vitjax.errors import UserError
from vitjax.generation import GenerationOptions, greedy, sample, sampling

PAD, BOS, EOS = 0, 1, 2
LENGTH = 6
TOKENS = dict(max_length=LENGTH, bos=BOS, eos=EOS)
OPTIONS = [{}, dict(suppress=(PAD, 4)), dict(suppress=(PAD,), forced_eos=True)]


def same(a, b):
    """Equal tokens and lengths, scores equal but for rounding."""
    np.testing.assert_array_equal(a.tokens, b.tokens)
    np.testing.assert_array_equal(a.lengths, b.lengths)
    np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4)


def rows(hypotheses, index):
    return jax.tree.map(lambda x: x[index], hypotheses)


@pytest.mark.parametrize('options', OPTIONS)
def test_greedy_takes_the_most_probable_token(problem, check_sequences, options):
    lengths = set()
    for seed in range(3):
        task = problem(seed)
        found = greedy(*task, **TOKENS, **options)
        check_sequences(task, found, **options)
        np.testing.assert_array_equal(found.scores, found.log_probabilities)
        lengths |= set(found.lengths.ravel().tolist())
        for row in range(len(task.source)):
            follow, prefix = task.following(row, **options), []
            while len(prefix) < LENGTH and EOS not in prefix:
                prefix.append(int(follow(prefix).argmax()))
            assert found.tokens[row, 0, : len(prefix)].tolist() == prefix
    assert len(lengths) > 2


def test_forced_eos_ends_sentences(problem):
    task = problem()
    cut_off = greedy(*task, **TOKENS, suppress=(EOS,))
    assert (cut_off.lengths == LENGTH).all()
    assert (cut_off.tokens != EOS).all()
    forced = greedy(*task, **TOKENS, suppress=(EOS,), forced_eos=True)
    assert (forced.tokens[..., -1] == EOS).all()
    np.testing.assert_array_equal(forced.tokens[..., :-1], cut_off.tokens[..., :-1])


@pytest.mark.parametrize(
    'options',
    [
        dict(temperature=0.0),
        dict(temperature=0.0, top_p=0.5),
        dict(top_k=1),
        dict(top_k=1, top_p=0.5, temperature=2.0),
        dict(top_p=1e-6),
    ],
)
def test_sample_of_the_most_probable_token_equals_greedy(problem, options):
    task = problem()
    same(sample(*task, **TOKENS, rng=jax.random.key(0), **options), greedy(*task, **TOKENS))


def test_sample_does_not_recompile_for_another_temperature(problem):
    task = problem()
    sample(*task, **TOKENS, rng=jax.random.key(0), temperature=0.5)
    compiled = sampling._sample._cache_size()
    sample(*task, **TOKENS, rng=jax.random.key(1), temperature=0.6)
    assert sampling._sample._cache_size() == compiled


@pytest.mark.parametrize('options', [{}, dict(top_k=4, top_p=0.9, temperature=1.5)])
def test_sample_depends_only_on_key_row_and_sentence(problem, check_sequences, options):
    task = problem()
    draw = functools.partial(sample, task.model, task.variables, **TOKENS, **options)
    found = draw(task.source, rng=jax.random.key(0))
    check_sequences(task, found)
    same(found, draw(task.source, rng=jax.random.key(0)))
    others = [draw(task.source, rng=jax.random.key(seed)).tokens for seed in range(1, 4)]
    assert any((other != found.tokens).any() for other in others)
    half = draw(task.source[:2], rng=jax.random.key(0))
    same(half, rows(found, slice(2)))


@pytest.mark.parametrize(
    ('options', 'temperature'),
    [(dict(top_k=2), 3.0), (dict(top_p=0.8), 1.0), (dict(top_p=0.6), 2.0)],
)
def test_sample_never_draws_excluded_tokens(problem, options, temperature):
    """Of many draws, none is outside the set and each member of it comes."""
    task = problem()
    source = np.repeat(task.source[:1], 500, axis=0)
    found = sample(
        *(task.model, task.variables, source),
        **dict(max_length=1, bos=BOS, eos=EOS, rng=jax.random.key(0), temperature=temperature),
        **options,
    )
    probabilities = np.exp(task.following(0)([]) / temperature)
    probabilities /= probabilities.sum()
    order = probabilities.argsort()[::-1]
    before = np.cumsum(probabilities[order]) - probabilities[order]
    k = options.get('top_k') or int((before < options['top_p']).sum())
    assert 1 < k < len(order)
    assert set(found.tokens.ravel().tolist()) == set(order[:k].tolist())


def test_sample_frequencies_equal_probabilities(problem):
    """Of the first token, and of the second after the most frequent first one."""
    task = problem()
    source = np.repeat(task.source[:1], 4000, axis=0)
    found = sample(
        *(task.model, task.variables, source),
        **dict(max_length=2, bos=BOS, eos=EOS, suppress=(EOS,), rng=jax.random.key(0)),
    )
    follow = task.following(0, suppress=(EOS,))
    first, second = np.asarray(found.tokens[:, 0]).T
    common = np.bincount(first).argmax()
    for prefix, tokens in (([], first), ([common], second[first == common])):
        frequencies = np.bincount(tokens, minlength=6) / len(tokens)
        # A frequency's standard deviation is at most sqrt(0.25 / n).
        np.testing.assert_allclose(frequencies, np.exp(follow(prefix)), atol=2 / len(tokens) ** 0.5)


def test_greedy_rows_are_independent(problem):
    task = problem()
    found = greedy(*task, **TOKENS)
    row = (task.source != PAD).sum(axis=1).argmin()
    for source in (task.source[row], task.source[row][task.source[row] != PAD]):
        alone = greedy(task.model, task.variables, source[None], **TOKENS)
        same(alone, rows(found, slice(row, row + 1)))


def test_greedy_uses_the_source_mask(problem):
    task = problem()
    source = np.where(task.source == PAD, 3, task.source)
    found = greedy(task.model, task.variables, source, task.source != PAD, **TOKENS)
    same(found, greedy(*task, **TOKENS))


@pytest.mark.parametrize('generate', [greedy, functools.partial(sample, rng=jax.random.key(0))])
def test_generation_stops_when_every_sentence_has_ended(problem, generate):
    steps = []
    task = problem(on_step=lambda: steps.append(1))
    found = generate(*task, **TOKENS | dict(max_length=50))
    jax.effects_barrier()
    assert len(steps) == found.lengths.max() < 50


def test_greedy_runs_inside_jit(problem):
    task = problem()

    @jax.jit
    def run(variables, source):
        return greedy(task.model, variables, source, **TOKENS)

    same(run(task.variables, task.source), greedy(*task, **TOKENS))


@pytest.mark.parametrize(
    'options', [dict(top_k=0), dict(top_p=0.0), dict(top_p=1.1), dict(max_length=0)]
)
def test_sample_refuses_options_out_of_range(problem, options):
    with pytest.raises(UserError, match=str(next(iter(options)))):
        sample(*problem(), rng=jax.random.key(0), **TOKENS | options)


def test_options_equal_their_fields_as_keywords(problem):
    task = problem()
    same(greedy(*task, options=GenerationOptions(**TOKENS)), greedy(*task, **TOKENS))
    with pytest.raises(TypeError, match='max_lenght'):
        greedy(*task, **TOKENS, max_lenght=3)
