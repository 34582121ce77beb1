"""What a task takes from `config.data`: opened, checked, and ready to be batched."""

import dataclasses
import io
import json
import re
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import ml_collections

from vitjax.config import PREPROCESSING
from vitjax.data.images import decode, to_picture
from vitjax.data.pipeline import eval_batches, reading, train_batches
from vitjax.data.preprocess import Preprocess
from vitjax.data.sources import SOURCES, UNREAD, Source, check_name, open_source
from vitjax.data.transforms import EvalImages, TrainImages
from vitjax.errors import CorruptExample, UserError
from vitjax.files import read_json, write_atomically


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Labelled images for training and for evaluation.

    Attributes:
      train: source of the training examples, or `UNREAD`.
      evaluation: source of the evaluation examples.
      preprocess: how pixels become what the model takes.
      labels: names of the classes, None if the data has none.
      config: the run's config.
    """

    train: Source
    evaluation: Source
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    config: ml_collections.ConfigDict

    @property
    def num_classes(self) -> int | None:
        """Classes that the model tells apart; None if it tells none."""
        return self.config.model.get('num_classes')

    @property
    def model_inputs(self) -> tuple[jax.Array, ...]:
        """Zeros of the shapes with which the model is initialised."""
        return (jnp.zeros((1, *self.preprocess.image_size, self.preprocess.channels)),)

    def train_batches(self, batch_size: int, shard: tuple[int, int]) -> grain.IterDataset:
        """Endless batches of this host's part, `batch_size` examples each."""
        return train_batches(
            self.train,
            TrainImages(self.preprocess, self.config.augment, self.num_classes),
            batch_size=batch_size,
            seed=self.config.seed,
            shard=shard,
            **reading(self.config.data),
        )

    def eval_batches(self, batch_size: int, shard: tuple[int, int]) -> grain.IterDataset:
        """Every example once, in batches of this host's part; padding is masked."""
        return eval_batches(
            self.evaluation,
            EvalImages(self.preprocess, self.num_classes),
            batch_size=batch_size,
            shard=shard,
            **reading(self.config.data),
        )

    def on_device(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """A batch as the model takes it; part of the jitted step."""
        return batch | {'image': self.preprocess.normalise(batch['image'])}

    def batch_shapes(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """What a training batch of all hosts holds."""
        size = self.preprocess.image_size
        image = (batch_size, *size, self.preprocess.channels)
        return {
            'image': jax.ShapeDtypeStruct(image, jnp.uint8),
            'label': jax.ShapeDtypeStruct((batch_size,), jnp.int32),
            'mask': jax.ShapeDtypeStruct((batch_size,), jnp.bool_),
        }

    def save(self, folder: Path) -> None:
        """Writes what later use needs: preprocessing, labels, and a test image to try."""
        self.preprocess.save(folder)
        write_atomically(folder / 'labels.json', json.dumps(self.labels) + '\n')
        for index in range(len(self.evaluation)):
            example = self.evaluation[index]
            try:
                pixels = decode(example['image'], self.preprocess.channels)
            except CorruptExample:
                continue
            label = self.labels[example['label']] if self.labels else str(example['label'])
            name = re.sub(r'\W+', '_', label)
            to_picture(pixels).save(file := io.BytesIO(), 'png')
            write_atomically(folder / 'examples' / f'{name}.png', file.getvalue())
            return


def read_labels(run: Path) -> tuple[str, ...] | None:
    """Names of the classes of a run; None if they are unknown."""
    path = run / 'labels.json'
    labels = read_json(path)
    if labels is not None and not (isinstance(labels, list) and all(map(_is_name, labels))):
        raise UserError(f'{path} is damaged: it is no list of names')
    return tuple(labels) if labels else None


def _is_name(label: object) -> bool:
    return isinstance(label, str)


def open_images(config: ml_collections.ConfigDict, training: bool = True) -> ImageData:
    """Opens the images that a config names, those to train on only for `training`.

    Raises UserError if they are not there.
    """
    data = config.data
    train = open_source(data.name, data.train_split, data.path) if training else UNREAD
    evaluation = open_source(data.name, data.eval_split, data.path)
    labels = train.labels if training else evaluation.labels
    return ImageData(train, evaluation, _preprocess(config), labels, config)


def unread_images(config: ml_collections.ConfigDict) -> ImageData:
    """What a config says of its images, with none of them read: shapes, and an assumed epoch."""
    check_name(config.data.name, SOURCES, 'data set')
    return ImageData(UNREAD, UNREAD, _preprocess(config), None, config)


def _preprocess(config: ml_collections.ConfigDict) -> Preprocess:
    model, size = config.model, config.model.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    facts = {name: config.data[name] for name in PREPROCESSING}
    return Preprocess(size, model.in_channels, **facts)
