import io

import jax
import jax.numpy as jnp
import pytest

from vitjax.training import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set: `clock[0] = seconds`."""
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    return now


def run(bar, clock, updates):
    for now, step, values, examples, waited in updates:
        clock[0] = now
        bar.update(step, values, examples, waited)
    bar.close()


def test_piped_lines(clock):
    stream = io.StringIO()
    run(
        progress.Progress(1500, stream=stream),
        clock,
        [
            (100.0, 10, {'loss': 2.34567}, 1000, 3),  # compiled until now
            (110.0, 150, {'loss': 0.4121, 'accuracy': 0.87}, 12340, 5),
            (111.0, 160, {'loss': 0.4}, 600, 5.5),  # a moment later: not shown
            (120.0, 290, {}, 600, 15),
            (120.5, 1500, {'loss': 1e-5}, 1, 15),  # the last: shown
        ],
    )
    assert stream.getvalue().splitlines() == [
        'step 10/1500  loss 2.346',
        'step 150/1500  loss 0.4121  accuracy 0.87  1234 examples/s  input 20%  0:01:36 left',
        'step 290/1500  loss 0.4  (step 160)  120 examples/s  input 100%  0:01:26 left',
        'step 1500/1500  loss 1e-05  2 examples/s  input 0%  0:00:00 left',
    ]


def test_a_resumed_run_judges_its_pace_by_its_own_steps(clock):
    stream = io.StringIO()
    run(
        progress.Progress(1000, start=900, stream=stream),
        clock,
        [(50.0, 910, {}, 10, 0), (60.0, 920, {}, 10, 0)],
    )
    assert (
        stream.getvalue().splitlines()[-1] == 'step 920/1000  1 examples/s  input 0%  0:01:20 left'
    )


def test_a_bar_on_a_terminal_and_lines_above_it(clock):
    stream = Terminal()
    bar = progress.Progress(4, start=1, stream=stream)
    clock[0] = 1.0
    bar.update(2, {'loss': 0.5}, 8, 0.0)
    bar.say('checkpoint saved')
    clock[0] = 3.0
    bar.update(4, {'loss': 0.25}, 8, 0.0)
    bar.close()
    parts = stream.getvalue().replace('\r', '\n').split('\n')
    assert 'checkpoint saved' in [part.strip() for part in parts]
    assert any(part.startswith('step 2/4  loss 0.5') for part in parts)
    assert any(
        'step 4/4  loss 0.25  4 examples/s  input 0%  0:00:00 left' in part for part in parts
    )


def test_said_lines_are_plain_when_piped():
    stream = io.StringIO()
    progress.Progress(4, stream=stream).say('checkpoint saved')
    assert stream.getvalue() == 'checkpoint saved\n'


def test_parameter_overview():
    params = {
        'head': {'kernel': jnp.zeros((100, 11)), 'bias': jnp.zeros(11, jnp.bfloat16)},
        'scale': jax.ShapeDtypeStruct((), jnp.float32),
    }
    assert progress.parameter_overview(params) == (
        'name         shape     dtype     count\n'
        'head/bias    11        bfloat16     11\n'
        'head/kernel  100 x 11  float32   1,100\n'
        'scale        scalar    float32       1\n'
        'total                            1,112'
    )
