"""The metrics of the run's own task, on other data than those of its main evaluation."""

import dataclasses

from vitjax.protocols import EvaluationEvent


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What the task of the run measures, on the split and the data of the entry."""

    def __call__(self, event: EvaluationEvent) -> dict[str, float]:
        """Loss and metrics of the task, and the number of examples."""
        return event.evaluate()
