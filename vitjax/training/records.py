"""Metrics of a run on disk: `metrics.jsonl`, one JSON object a line, and TensorBoard events.

A run that was interrupted and resumed leaves the same `metrics.jsonl`, to the byte, as one that was
not. So nothing that depends on the clock goes there.
"""

import contextlib
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.errors import RunError
from vitjax.files import is_local, to_path, write_atomically

# Seconds between two writings of a growing object to a bucket, which takes about one a second.
_PUT_EVERY = 10


class Records:
    """The open records of a run; one process writes them.

    Args:
      folder: of the run; made if it is not there.
      resume_step: the step of the checkpoint that the run goes on from; what was recorded after it
        is dropped, and so is a line that was not written to its end. 0 for a new run.
      tensorboard: whether to write TensorBoard events too.

    Raises:
      RunError: the folder cannot be written to; every method raises it, too, as on a full disk.
    """

    def __init__(self, folder: str | Path, resume_step: int = 0, tensorboard: bool = True):
        path = to_path(folder) / 'metrics.jsonl'
        with _writing(path):
            if path.exists():
                _rewind(path, resume_step)
            self._rows = _open_to_append(path)
            self._events = _Events(path.parent, resume_step + 1) if tensorboard else None

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Adds the row `{"step": step, "split": split, **values}`; null is what is not finite."""
        row = {name: plain(value) for name, value in values.items()}
        with _writing(self._rows.name):
            self._rows.write(json.dumps({'step': int(step), 'split': split, **row}) + '\n')
        self._write_events(step, split, values)

    def write_speed(self, step: int, values: Mapping[str, float]) -> None:
        """Adds what the clock measured, as `speed/NAME`, to the TensorBoard events only."""
        self._write_events(step, 'speed', values)

    def sync(self) -> None:
        """Flushes all rows and events to the disk; called before each checkpoint is saved."""
        with _writing(self._rows.name):
            self._rows.flush()
            if isinstance(self._rows, io.IOBase):
                os.fsync(self._rows.fileno())
            if self._events:
                self._events.sync()

    def close(self) -> None:
        with _writing(self._rows.name):
            self._rows.close()
            if self._events:
                self._events.close()

    def _write_events(self, step: int, group: str, values: Mapping[str, float]) -> None:
        if self._events:
            with _writing(self._rows.name):
                self._events.write(step, {f'{group}/{name}': v for name, v in values.items()})


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, oldest first, without a line that is torn."""
    rows = map(_row, to_path(path).read_bytes().splitlines(keepends=True))
    return [row for row in rows if row]


class _Events:
    """A file of TensorBoard events; those in earlier files from step `start` on are hidden."""

    def __init__(self, folder: Path, start: int):
        # The parts of its SummaryWriter, whose flush does not wait for its thread, and whose thread
        # dies unnoticed on a full disk.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import register_writer_factory

        # Its own for buckets has a client of its own, and writes once more when it is collected.
        register_writer_factory('gs', _Buckets())
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        # The name holds whole seconds: only a number keeps a quickly resumed run from overwriting.
        count = len(list(folder.glob('events.*')))
        self._writer = EventsWriter(str(folder / 'events'), f'.{count:04d}')
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.write_event(self._event(step=start, session_log=session))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
        summary = self._summary(value=scalars)
        self._writer.write_event(self._event(step=step, wall_time=time.time(), summary=summary))

    def sync(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _GrowingObject:
    """What is added to the end of an object in a bucket, where objects are only written whole.

    It is there at each `flush`, and soon after `write`, as far as more is written.
    """

    def __init__(self, path: Path):
        self.name = path
        self._content = bytearray(path.read_bytes() if path.exists() else b'')
        self._last = time.monotonic()

    def write(self, content: str | bytes) -> None:
        self._content += content.encode() if isinstance(content, str) else content
        if time.monotonic() - self._last > _PUT_EVERY:
            self.flush()

    def flush(self) -> None:
        write_atomically(self.name, bytes(self._content))
        self._last = time.monotonic()

    close = flush


class _Buckets:
    """How tensorboardX opens a file of events in a bucket."""

    def open(self, path: str) -> _GrowingObject:
        return _GrowingObject(to_path(path))


def _open_to_append(path: Path) -> io.TextIOBase | _GrowingObject:
    if not is_local(path):
        return _GrowingObject(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open('a', encoding='utf-8', buffering=1)  # a line is written when it ends


def _rewind(path: Path, step: int) -> None:
    """Removes rows after `step` and invalid lines; replaces the file atomically."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if (row := _row(line)) and row['step'] <= step]
    if kept != lines:
        write_atomically(path, b''.join(kept))


def _row(line: bytes) -> dict[str, Any] | None:
    """What a line of `metrics.jsonl` holds; None if it was not written to its end."""
    try:
        return json.loads(line) if line.endswith(b'\n') else None
    except ValueError:
        return None


def plain(value: float) -> float | int | None:
    """The JSON number: a float32 with its own shortest digits (0.1), not those of its double."""
    if isinstance(value, int):
        return value
    value = float(value)
    if not math.isfinite(value):
        return None
    with np.errstate(over='ignore', under='ignore'):
        single = np.float32(value)
    return float(str(single)) if float(single) == value else value


@contextlib.contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f'cannot write {path}: {error.strerror}; check its space and permissions'
        ) from error
