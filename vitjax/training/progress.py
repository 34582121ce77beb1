"""Progress of a run on stderr: step, speed, remaining time, and a table of its parameters."""

import datetime
import math
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import jax
from tqdm import tqdm


class Progress:
    """A bar on a terminal; elsewhere plain lines, one in a few seconds at most.

        step 150/1500  loss 0.412  accuracy 0.87  1234 examples/s  input 2%  0:01:20 left

    Losses are means of what was learned from up to the last log, whose step follows them where it is
    another. `input` is the share of the time that the run waited for its next batch, since the last
    line.

    Args:
      total: steps of the run.
      start: steps that were done before.
      stream: where to; None: stderr.
    """

    def __init__(self, total: int, start: int = 0, stream: TextIO | None = None):
        self._total = total
        self._stream = stream or sys.stderr
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=start,
                file=self._stream,
                bar_format='{desc} {bar}',
                dynamic_ncols=True,
            )
        self._interval = 0.5 if self._bar else 5.0  # seconds between two lines
        self._values: dict[str, float] = {}
        self._logged = start  # the step that they are of
        self._examples = 0  # since the last line
        self._waited = 0.0  # seconds, until then
        self._last: float | None = None  # when that was
        # The first step takes the time to compile, so the clock starts after it.
        self._first: tuple[int, float] | None = None

    def update(self, step: int, values: Mapping[str, float], examples: int, waited: float) -> None:
        """Shows a step, unless the last one shown was a moment ago; the last of the run always.

        Args:
          step: steps done.
          values: name -> number to show; if there are none, those of the last time stand.
          examples: how many were learned from since the last call.
          waited: seconds that the run has spent on waiting for batches so far.
        """
        now = time.monotonic()
        if values:
            self._values, self._logged = dict(values), step
        self._examples += examples
        if self._last is not None and now < self._last + self._interval and step < self._total:
            return
        parts = [f'step {step}/{self._total}']
        parts += [f'{name} {value:.4g}' for name, value in self._values.items()]
        if self._values and self._logged != step:
            parts.append(f'(step {self._logged})')
        if self._first is None:
            self._first = step, now
        elif now > self._last and step > self._first[0]:
            parts.append(f'{_rounded(self._examples / (now - self._last))} examples/s')
            parts.append(f'input {(waited - self._waited) / (now - self._last):.0%}')
            pace = (now - self._first[1]) / (step - self._first[0])
            left = datetime.timedelta(seconds=round(pace * (self._total - step)))
            parts.append(f'{left} left')
        self._examples, self._waited, self._last = 0, waited, now
        self._show(step, '  '.join(parts))

    def say(self, text: str) -> None:
        """Prints a line of its own, above the bar if there is one."""
        if self._bar:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar:
            self._bar.close()

    def _show(self, step: int, line: str) -> None:
        if self._bar:
            self._bar.n = step
            self._bar.set_description_str(line)
        else:
            self.say(line)


def parameter_overview(params: Any) -> str:
    """A table of a tree of arrays, or of their shapes: name, shape, dtype, count, and the total."""
    rows = [('name', 'shape', 'dtype', 'count')]
    leaves = jax.tree.leaves_with_path(params)
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        shape = ' x '.join(map(str, leaf.shape)) or 'scalar'
        rows.append((name, shape, str(leaf.dtype), f'{math.prod(leaf.shape):,}'))
    total = sum(math.prod(leaf.shape) for _, leaf in leaves)
    rows.append(('total', '', '', f'{total:,}'))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        f'{name:<{widths[0]}}  {shape:<{widths[1]}}  {dtype:<{widths[2]}}  {count:>{widths[3]}}'
        for name, shape, dtype, count in rows
    )


def _rounded(rate: float) -> str:
    return f'{rate:.0f}' if rate >= 10 else f'{rate:.2g}'
