"""What callbacks to experiment trackers share: one tracker's run for a run that is stopped and resumed."""

import abc
import collections
import importlib.util
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from vitjax.errors import UserError
from vitjax.files import is_local, read_json, write_atomically


class Tracker(abc.ABC):
    """Sends what a run measures to an experiment tracker, from process 0, as GROUP/NAME.

    A file of the run's folder stores the id of the tracker's run, and for each group ('train', 'test', 'knn')
    the last step that the tracker has for certain. A run that was stopped continues the same tracker's
    run: rows of `metrics.jsonl` after these steps are sent first, and the steps that are trained again
    are not sent twice. After a kill, what was sent in its last `LAG` seconds is sent again, with
    the same steps and values. A tracker that did not answer is sent the missing rows later.

    The tracker's run is opened at the first event and closed at the event 'end'. The library is looked for
    when the callback is made, so that a missing one is reported before training.
    """

    FILE: str  # its name in the run's folder
    LIBRARY: str  # that is imported, and the name of the extra that installs it
    LAG: float = 0.0  # seconds until what was sent is stored, even if this process is killed

    def __init__(self):
        spec = importlib.util.find_spec(self.LIBRARY)
        if spec is None or spec.origin is None:  # W&B leaves folders that have its name
            raise UserError(
                f"the callback {self.LIBRARY} needs a library: pip install 'vitjax[{self.LIBRARY}]'"
            )
        self._stored: dict[str, Any] | None = None  # what the file holds; None while closed
        self._sent: dict[str, int] = {}  # group -> last step
        self._unsure: collections.deque[tuple[float, str, int]] = collections.deque()
        self._complete = False  # whether the tracker was sent all that was measured

    def __call__(self, event: Any) -> None:
        """Sends the metrics of a 'log' or an 'eval'; those that are None are left out."""
        if jax.process_index() != 0:
            return
        path = event.workdir / self.FILE
        if self._stored is None:
            stored = _read_stored(path)
            run_id = self._open(event, stored['id'])
            self._stored, self._sent = stored | {'id': run_id}, dict(stored['steps'])
            self._complete = False
            self._save(path)
            self._describe(event)
        if not self._complete:
            rows = _read_rows(event.workdir / 'metrics.jsonl')
            self._complete = all(self._send_once(*row) for row in rows)
        if self._complete and event.kind in ('log', 'eval'):
            self._complete = self._send_once(event.step, event.name, event.metrics)
        if event.kind == 'end':
            self._close()
        while self._unsure and (
            event.kind == 'end' or self._unsure[0][0] <= time.monotonic() - self.LAG
        ):
            _, group, step = self._unsure.popleft()
            self._stored['steps'][group] = step
        # A bucket takes about one writing of an object a second.
        if is_local(path) or event.kind in ('checkpoint', 'end'):
            self._save(path)
        if event.kind == 'end':
            self._stored = None

    def _send_once(self, step: int, group: str, metrics: Mapping[str, float | None]) -> bool:
        """Whether the tracker has the metrics of a step; sends them if it was not sent them yet."""
        if step <= self._sent.get(group, -1):
            return True
        values = {f'{group}/{name}': v for name, v in metrics.items() if v is not None}
        if not self._send(step, values):
            return False
        self._sent[group] = step
        self._unsure.append((time.monotonic(), group, step))
        return True

    def _save(self, path: Any) -> None:
        content = json.dumps(self._stored, indent=2) + '\n'
        if not path.exists() or path.read_text() != content:
            write_atomically(path, content)

    @abc.abstractmethod
    def _open(self, event: Any, run_id: str | None) -> str:
        """Opens the tracker's run of this id, a new one for None; returns its id."""

    def _describe(self, event: Any) -> None:  # noqa: B027
        """Sends what describes the run, once its id is stored. Not every tracker needs it."""

    @abc.abstractmethod
    def _send(self, step: int, values: Mapping[str, float]) -> bool:
        """Sends what was measured at a step; returns whether the tracker took it."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Returns once all is sent, and marks the tracker's run as finished."""


def _read_stored(path: Any) -> dict[str, Any]:
    """What the file of a tracker holds: 'id', and 'steps', group -> step; UserError if it is damaged."""
    if not path.exists():
        return {'id': None, 'steps': {}}
    stored = read_json(path)
    if not (
        isinstance(stored, dict)
        and isinstance(stored.get('id'), str)
        and isinstance(stored.get('steps'), dict)
        and all(isinstance(step, int) for step in stored['steps'].values())
    ):
        raise UserError(f'{path} is damaged; without it a new run is tracked')
    return stored


def _read_rows(path: Any) -> Iterator[tuple[int, str, dict[str, float | None]]]:
    """(step, group, metrics) of each row of a `metrics.jsonl`; a line that is torn is left out."""
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        try:
            row = json.loads(line) if line.endswith('\n') else None
        except ValueError:
            continue
        if row:
            yield row.pop('step'), row.pop('split'), row
