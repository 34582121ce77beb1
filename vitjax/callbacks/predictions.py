"""Pictures of what a model predicts, as it is trained."""

import dataclasses
import io
import math
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vitjax.analysis.drawing import new_figure
from vitjax.errors import CorruptExample, UserError
from vitjax.files import write_atomically

_COLUMNS = 4
_LONGEST = 24  # characters of a label


class Predictions:
    """Writes `predictions/STEP.png` to the run's folder at evaluations of the run's evaluation split.

    It shows the first images of that split as the model takes them, each with the predicted label, its
    probability, and the true label. It is for models of one label an image, with logits [B, K].

    Args:
      count: of images; those that cannot be read are left out.
      every: steps; evaluations at steps that it does not divide give no picture. None: each gives one.
    """

    def __init__(self, count: int = 8, every: int | None = None):
        if count < 1:
            raise UserError(f'count must be at least 1, not {count}')
        if every is not None and every < 1:
            raise UserError(f'every must be at least 1, not {every}')
        new_figure(1, 1)  # raises where matplotlib is missing, before anything is trained
        self.count, self.every = count, every
        self._examples: _Examples | None = None
        self._probabilities: Any = None  # jitted at the first picture

    def __call__(self, event: Any) -> None:
        """Draws a picture if one is due; all processes compute, process 0 writes."""
        if event.kind != 'eval' or event.name != event.config['data']['eval_split']:
            return
        if self.every is not None and event.step % self.every:
            return
        experiment = event.experiment
        if self._examples is None:
            self._examples = _read_examples(experiment.data, self.count)
            self._probabilities = _make_probabilities(experiment)
        examples = self._examples
        # A whole number of images for each device.
        size = math.ceil(len(examples.labels) / experiment.mesh.size) * experiment.mesh.size
        padding = [(0, size - len(examples.labels)), (0, 0), (0, 0), (0, 0)]
        with experiment.context():
            found = self._probabilities(event.variables, np.pad(examples.pixels, padding))
        probabilities = np.asarray(found)[: len(examples.labels)]
        if jax.process_index() == 0:
            picture = _draw(event.step, examples, probabilities, experiment.data.labels)
            write_atomically(event.workdir / 'predictions' / f'{event.step}.png', picture)


@dataclasses.dataclass(frozen=True)
class _Examples:
    pixels: np.ndarray  # uint8 [N, H, W, C]
    labels: list[int]


def _read_examples(data: Any, count: int) -> _Examples:
    """The first examples of the evaluation split that can be read."""
    pixels, labels = [], []
    for index in range(len(data.evaluation)):
        if len(labels) == count:
            break
        try:
            example = data.evaluation[index]
            if missing := [key for key in ('image', 'label') if key not in example]:
                raise UserError(
                    f'the callback predictions needs images and labels; '
                    f'{data.evaluation.name} has no {missing[0]!r}'
                )
            pixels.append(data.preprocess.pixels(example['image']))
        except CorruptExample:
            continue
        labels.append(int(example['label']))
    if not labels:
        raise UserError(f'{data.evaluation.name}: no example can be read')
    return _Examples(np.stack(pixels), labels)


def _make_probabilities(experiment: Any) -> Any:
    """The jitted function (variables, pixels uint8 [N, H, W, C]) -> probabilities [N, K] on every device."""

    def probabilities(variables, pixels):
        logits = experiment.model.apply(variables, experiment.data.preprocess.normalise(pixels))
        if getattr(logits, 'ndim', None) != 2:
            raise UserError(
                f'the callback predictions needs a model of logits [B, K], not '
                f'{type(experiment.model).__name__}'
            )
        return jax.nn.softmax(logits.astype(jnp.float32))

    replicated = NamedSharding(experiment.mesh, PartitionSpec())
    return jax.jit(probabilities, out_shardings=replicated)


def _draw(
    step: int, examples: _Examples, probabilities: np.ndarray, names: tuple[str, ...] | None
) -> bytes:
    """A PNG of images with their predicted and true labels, wrong ones in red."""
    columns = min(len(examples.labels), _COLUMNS)
    rows = math.ceil(len(examples.labels) / columns)
    figure = new_figure(1.8 * columns, 2.4 * rows + 0.3)
    figure.suptitle(f'step {step}')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis('off')
    for axis, image, label, row in zip(
        axes, examples.pixels, examples.labels, probabilities, strict=False
    ):
        predicted = int(row.argmax())
        gray = image.shape[-1] == 1
        axis.imshow(image[..., 0] if gray else image, cmap='gray', vmin=0, vmax=255)
        axis.set_title(
            f'{_name(predicted, names)} ({row[predicted]:.0%})\ntrue: {_name(label, names)}',
            fontsize=9,
            color='black' if predicted == label else 'tab:red',
        )
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=120)
    return file.getvalue()


def _name(label: int, names: tuple[str, ...] | None) -> str:
    """The name of a class, shortened; its number if it has none."""
    if names is None or label >= len(names):
        return str(label)
    # matplotlib reads text between dollar signs as a formula.
    return textwrap.shorten(names[label], _LONGEST, placeholder='...').replace('$', r'\$')
