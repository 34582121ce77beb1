"""A picture of predictions at each evaluation."""

from typing import Any

import jax
import numpy as np

from vitjax.analysis.drawing import new_figure, save_figure
from vitjax.config import Count
from vitjax.models.contract import call_options
from vitjax.protocols import Event


class Predictions:
    """Draws the first images of the evaluation split with what the model predicts, and with their labels.

    The pictures are `predictions/STEP.png` in the run's folder.

    Args:
      count: of the images.
    """

    def __init__(self, count: Count = 8):
        self._count = count
        self._compiled: dict[int, Any] = {}

    def __call__(self, event: Event) -> None:
        experiment = event.experiment
        main = event.kind == 'eval' and event.name == experiment.eval_split
        data = experiment.data
        if not main or getattr(data.preprocess, 'pixels', None) is None:
            return
        examples = [data.evaluation[i] for i in range(min(self._count, len(data.evaluation)))]
        pixels = np.stack([data.preprocess.pixels(example['image']) for example in examples])
        with experiment.context():
            found = self._predict(experiment)(event.variables, data.preprocess.normalise(pixels))
        if jax.process_index() != 0:
            return
        found = jax.device_get(found)
        figure = new_figure(1.4 * len(examples), 2.0)
        for row, (axis, example) in enumerate(
            zip(figure.subplots(1, len(examples), squeeze=False)[0], examples, strict=True)
        ):
            one = {name: values[row] for name, values in found.items()}
            text, _ = experiment.task.answer(one, data.labels, 1)
            shown = pixels[row].astype(np.float32)
            axis.imshow(
                shown / max(shown.max(), 1e-6) if shown.shape[-1] == 3 else shown[..., 0],
                cmap='gray',
            )
            axis.set_title(f'{text}\n{_label(example, data.labels)}', fontsize=7)
            axis.set(xticks=[], yticks=[])
        (event.workdir / 'predictions').mkdir(exist_ok=True)
        save_figure(figure, event.workdir / 'predictions' / f'{event.step}.png')

    def _predict(self, experiment: Any) -> Any:
        """Jitted once for a run."""
        if id(experiment) not in self._compiled:
            model, task = experiment.model, experiment.task
            options = call_options(model, False)
            self._compiled[id(experiment)] = jax.jit(
                lambda variables, images: task.predict(model.apply(variables, images, **options))
            )
        return self._compiled[id(experiment)]


def _label(example: Any, labels: tuple[str, ...] | None) -> str:
    label = example.get('label')
    if labels and np.ndim(label) == 0 and label is not None:
        return f'is {labels[int(label)]}'
    return '' if label is None else f'is {label}'
