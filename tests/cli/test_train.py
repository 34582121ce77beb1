import os
import signal

import pytest

from vitjax.cli.train import _stop_on_signals
from vitjax.errors import Preempted


@pytest.fixture
def left(monkeypatch):
    """Codes with which the process would have ended at once."""
    codes = []
    monkeypatch.setattr(os, '_exit', codes.append)
    return codes


@pytest.mark.parametrize(
    ('signals', 'ends', 'error'),
    [
        ([signal.SIGTERM], [], Preempted),
        ([signal.SIGTERM, signal.SIGTERM], [], Preempted),
        ([signal.SIGINT], [], KeyboardInterrupt),
        ([signal.SIGTERM, signal.SIGINT], [], Preempted),
        ([signal.SIGINT, signal.SIGINT], [130], KeyboardInterrupt),
    ],
)
def test_the_first_signal_stops_and_a_second_ctrl_c_ends(signals, ends, error, left):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def run():
        with _stop_on_signals() as should_stop:
            assert not should_stop(1)
            for number in signals:
                signal.raise_signal(number)
                assert should_stop(2)
            raise Preempted

    with pytest.raises(error):
        run()
    assert left == ends
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
