import os
import signal

import pytest

from vitjax.errors import Preempted
from vitjax.runtime.signals import stop_on_signals


@pytest.fixture
def exit_codes(monkeypatch):
    """Exit codes of `os._exit`, which is replaced."""
    codes = []
    monkeypatch.setattr(os, '_exit', codes.append)
    return codes


@pytest.mark.parametrize(
    ('signals', 'expected_codes', 'error'),
    [
        ([signal.SIGTERM], [], Preempted),
        ([signal.SIGTERM, signal.SIGTERM], [], Preempted),
        ([signal.SIGINT], [], KeyboardInterrupt),
        ([signal.SIGTERM, signal.SIGINT], [], Preempted),
        ([signal.SIGINT, signal.SIGINT], [130], KeyboardInterrupt),
    ],
)
def test_stop_on_signals_stops_at_the_first_and_exits_at_a_second_ctrl_c(
    signals, expected_codes, error, exit_codes
):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def run():
        with stop_on_signals() as should_stop:
            assert not should_stop(1)
            for number in signals:
                signal.raise_signal(number)
                assert should_stop(2)
            raise Preempted

    with pytest.raises(error):
        run()
    assert exit_codes == expected_codes
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
