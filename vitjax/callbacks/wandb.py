"""Records to Weights & Biases (extra `wandb`)."""

from typing import Any, Literal

import jax

from vitjax.callbacks.records import flat, import_extra, named_metrics, read_id, write_id
from vitjax.protocols import Event


class WandB:
    """Writes metrics with their step, and the config, to one run of W&B, also after a stop.

    Its id is kept in `wandb.json` in the run's folder.

    Args:
      project: of W&B.
      entity: user or team; None for the default of the account.
      mode: 'online', or 'offline' for files that `wandb sync` uploads later, or 'disabled'.
    """

    def __init__(
        self,
        project: str = 'vitjax',
        entity: str | None = None,
        mode: Literal['online', 'offline', 'disabled'] = 'online',
    ):
        self._arguments = {'project': project, 'entity': entity, 'mode': mode}
        self._run: Any = None

    def __call__(self, event: Event) -> None:
        if jax.process_index() != 0:
            return
        if self._run is None:
            self._run = self._start(event)
        if event.kind in ('log', 'eval'):
            self._run.log(named_metrics(event) | {'step': event.step})
        elif event.kind == 'end':
            self._run.finish()
            self._run = None

    def _start(self, event: Event) -> Any:
        wandb = import_extra('wandb')
        path = event.workdir / 'wandb.json'
        known = read_id(path)
        run = wandb.init(
            **self._arguments,
            id=known,
            resume='allow' if known else None,
            name=event.workdir.name,
            dir=str(event.workdir),
            config=flat(event.config),
        )
        # What is measured again after a stop has the same step, which W&B's own counter refuses.
        run.define_metric('step')
        run.define_metric('*', step_metric='step')
        write_id(path, run.id)
        return run
