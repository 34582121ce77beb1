"""Metrics of a run, sent to Weights & Biases."""

from collections.abc import Mapping
from typing import Any, Literal

from vitjax.callbacks.tracker import Tracker
from vitjax.errors import UserError, one_line
from vitjax.files import is_local


class WandB(Tracker):
    """Sends metrics as 'train/loss' or 'test/accuracy' over 'step', and the config, to Weights & Biases.

    Its files are in `wandb/` of the run's folder. An offline run that was stopped and resumed has several
    folders `offline-run-*` there, with the same id; `wandb sync --append` uploads them to one run.

    Args:
      project: of W&B.
      entity: user or team; None: the default of the account.
      mode: 'online' needs `wandb login` or WANDB_API_KEY; 'offline' writes files only; 'disabled' does
        nothing.
      run_name: that W&B shows; None: the name of the run's folder.
      group: of runs that W&B shows together; None for none.
      tags: of the run.
    """

    FILE, LIBRARY = 'wandb.json', 'wandb'
    LAG = 30.0  # W&B writes its file every 15 seconds

    def __init__(
        self,
        project: str = 'vitjax',
        entity: str | None = None,
        mode: Literal['online', 'offline', 'disabled'] = 'online',
        run_name: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
    ):
        super().__init__()
        self.project, self.entity, self.mode = project, entity, mode
        self.run_name, self.group, self.tags = run_name, group, tags
        self._run: Any = None

    def __call__(self, event: Any) -> None:
        """As `Tracker`, but nothing with the mode 'disabled'."""
        if self.mode != 'disabled':
            super().__call__(event)

    def _open(self, event: Any, run_id: str | None) -> str:
        import wandb

        try:
            self._run = wandb.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                name=self.run_name or event.workdir.name,
                group=self.group,
                tags=self.tags or None,
                id=run_id,
                resume='allow',
                dir=str(event.workdir) if is_local(event.workdir) else None,
                config=dict(event.config),
            )
        except wandb.Error as error:
            raise UserError(
                f"W&B: {one_line(error)}; config.callbacks.wandb.mode='offline' needs no connection"
            ) from error
        # W&B's own step only grows by one with each call; this is the step of training.
        self._run.define_metric('step', hidden=True)
        self._run.define_metric('*', step_metric='step')
        return self._run.id

    def _send(self, step: int, values: Mapping[str, float]) -> bool:
        self._run.log({'step': step, **values})
        return True

    def _close(self) -> None:
        self._run.finish()
