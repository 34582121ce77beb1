"""Stopping a training run by SIGTERM or Ctrl-C."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from vitjax.errors import Preempted


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[int], bool]]:
    """Handles SIGTERM and SIGINT while a run trains; yields `should_stop(step)` for `vitjax.train`.

    After the first signal `should_stop` returns True, so that the run saves a checkpoint and raises
    `Preempted`. For SIGINT (Ctrl-C) this becomes KeyboardInterrupt. A second SIGINT ends the process at once,
    with exit code 130. With several processes, JAX's coordination service handles SIGTERM, and `should_stop`
    returns True at the same step in all of them.
    """
    import jax

    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        yield reached_preemption_sync_point
        return
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if signal.SIGINT in received:
                # An exception would wait for a checkpoint that is being written.
                for worker in multiprocessing.active_children():
                    worker.kill()
                os._exit(130)
            # print is not reentrant, and may be what the signal interrupts.
            os.write(2, b'\nvitjax: stopping after this step; press Ctrl-C again to stop at once\n')
        received.append(number)

    previous = {
        number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda step: bool(received)
    except Preempted:
        if received and received[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
