"""A trace of some steps of a run, for TensorBoard's profiler or Perfetto."""

import logging
from pathlib import Path
from typing import Any

import jax

logger = logging.getLogger(__name__)


class Profiler:
    """Traces the steps from the first to the last of `config.log.profile`, both included; None: none.

    Args:
      folder: where the trace is written.
      steps: (from, to).
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self._folder, self._steps, self._active = folder, steps, False

    def before(self, step: int) -> None:
        """Before a step: starts the trace at the first one."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(str(self._folder))
            self._active = True

    def after(self, step: int, values: Any) -> None:
        """After a step: ends the trace when the last one, which gave these values, is computed."""
        if self._active and step >= self._steps[1]:
            jax.block_until_ready(values)
            self.close()

    def close(self) -> None:
        """Ends the trace, if one is being written."""
        if self._active:
            self._active = False
            jax.profiler.stop_trace()
            logger.info('wrote a trace of the steps %d to %d to %s', *self._steps, self._folder)
