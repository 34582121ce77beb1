import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.config import arguments
from vitjax.errors import UserError
from vitjax.training import schedules

# (name, its arguments, steps of the run, warm-up and cool-down, {step: learning rate})
TABLE = [
    ('constant', {}, (100, 0, 0), {0: 2, 50: 2, 100: 2}),
    ('constant', {}, (100, 10, 20), {0: 0, 5: 1, 10: 2, 80: 2, 90: 1, 100: 0, 120: 0}),
    ('linear', {}, (100, 0, 0), {0: 2, 25: 1.5, 100: 0, 200: 0}),
    ('linear', {'final': 0.5}, (100, 20, 0), {0: 0, 10: 1, 20: 2, 60: 1.5, 100: 1, 200: 1}),
    ('linear', {'final': 0.5}, (100, 0, 20), {0: 2, 40: 1.5, 80: 1, 90: 0.5, 100: 0}),
    ('cosine', {}, (100, 20, 0), {0: 0, 20: 2, 40: 1 + 2**-0.5, 60: 1, 100: 0}),
    ('cosine', {'final': 0.1}, (100, 0, 10), {0: 2, 45: 1.1, 90: 0.2, 95: 0.1, 100: 0}),
    ('rsqrt', {'timescale': 10}, (100, 5, 0), {0: 0, 5: 2, 35: 1, 85: 2 / 3}),
    ('rsqrt', {'timescale': 10}, (100, 0, 20), {0: 2, 30: 1, 80: 2 / 3, 90: 1 / 3, 100: 0}),
    ('cosine', {}, (10, 4, 6), {0: 0, 4: 2, 7: 1, 10: 0}),
]
NAMES = pytest.mark.parametrize('name', schedules.SCHEDULES)


def options(name, **changes):
    defaults = {key: default for key, (_, default) in arguments('schedule', name).items()}
    return ml_collections.ConfigDict(defaults | {'name': name} | changes)


@pytest.mark.parametrize(('name', 'changes', 'steps', 'expected'), TABLE)
def test_values(name, changes, steps, expected):
    total, warmup, cooldown = steps
    schedule = schedules.create(
        options(name, **changes), 2.0, total=total, warmup=warmup, cooldown=cooldown
    )
    rates = {step: float(schedule(step)) for step in expected}
    assert rates == pytest.approx(expected, abs=1e-6)


def test_every_schedule_is_in_the_table():
    assert {name for name, *_ in TABLE} == set(schedules.SCHEDULES)


@NAMES
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_positive_continuous_and_within_the_peak(name, data):
    total = data.draw(st.integers(1, 200))
    warmup = data.draw(st.integers(0, total))
    cooldown = data.draw(st.integers(0, total - warmup))
    peak = data.draw(st.floats(1e-6, 10))
    schedule = schedules.create(options(name), peak, total=total, warmup=warmup, cooldown=cooldown)
    rates = np.asarray(schedule(jnp.arange(201)))[: total + 1]

    assert (rates >= 0).all()
    assert (rates <= peak * (1 + 1e-6)).all()
    assert (rates[1 : total - cooldown] > 0).all()
    assert (rates[0] == 0) == (warmup > 0)
    # The steepest a body gets is the cosine's pi / 2 over its length.
    slopes = [
        1 / warmup if warmup else 0,
        1 / cooldown if cooldown else 0,
        np.pi / 2 / max(total - warmup - cooldown, 1),
    ]
    assert np.abs(np.diff(rates)).max() <= peak * (max(slopes) + 1e-5)


@NAMES
def test_jit_gives_float32_and_the_same(name):
    schedule = schedules.create(options(name), 1e-3, total=50, warmup=5, cooldown=5)
    steps = jnp.arange(50)
    rates = jax.jit(jax.vmap(schedule))(steps)
    assert rates.dtype == jnp.float32
    np.testing.assert_allclose(rates, [schedule(step) for step in range(50)], rtol=1e-5, atol=1e-9)


def test_rsqrt_does_not_depend_on_the_length_of_the_run():
    short, long = (
        schedules.create(options('rsqrt'), 1.0, total=total, warmup=10, cooldown=20)
        for total in (100, 1000)
    )
    np.testing.assert_array_equal(short(jnp.arange(80)), long(jnp.arange(80)))


def test_a_run_too_short_for_its_warmup_is_refused():
    with pytest.raises(
        UserError, match=r'warmup \(60 steps\) and cooldown \(50 steps\).*100 steps'
    ):
        schedules.create(options('cosine'), 1.0, total=100, warmup=60, cooldown=50)


def test_an_unknown_name_is_refused():
    config = {'name': 'cosin', 'warmup': 0, 'cooldown': 0}
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        schedules.create(config, 1.0, total=1, warmup=0, cooldown=0)
