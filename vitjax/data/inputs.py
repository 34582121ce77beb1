"""The data of a run, opened by its task: sources, transforms, batches."""

import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vitjax import registry
from vitjax.config import PREPROCESSING
from vitjax.data.images import EncodedImage, decode, to_picture
from vitjax.data.preprocess import Preprocess
from vitjax.data.sources import PLACEHOLDER_SPLIT, Splits, is_stream, open_split, open_splits
from vitjax.data.transforms import Preprocessed, identity, make_augment, to_arrays
from vitjax.errors import CorruptExample, UserError
from vitjax.files import read_json, write_atomically
from vitjax.protocols import Batch

Transform = Callable[[Mapping[str, Any], np.random.Generator], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Arguments with which a task opens the data of a run.

    Attributes:
      keys: `config.data`.
      text: `config.text`.
      augment: `config.augment`; its `name` may also be a callable (example, rng) -> example.
      seed: of the run.
      model: the model that is trained or evaluated.
      splits: of the data set, if they are already open; else `keys['name']` is opened.
      run: folder of a run that is resumed or evaluated, whose tokenizer and labels are used.
      training: whether the training data are needed.
      read: if False, nothing is read, and an epoch has the length of ImageNet's; for planning.
    """

    keys: Mapping[str, Any]
    text: Mapping[str, Any]
    augment: Mapping[str, Any]
    seed: int
    model: nn.Module
    splits: Splits | None = None
    run: Path | None = None
    training: bool = True
    read: bool = True

    def open(self, split: str, languages: tuple[str, str] | None = None) -> Any:
        """A split of the data set, by its name in TFDS syntax."""
        splits = self.splits
        if splits is None:
            splits = open_splits(self.keys['name'], self.keys, languages)
        return open_split(splits, split, self.keys['name'] or 'data', self.keys['path'])

    def open_both(self, languages: tuple[str, str] | None = None) -> tuple[Any, Any]:
        """The sources for training and for evaluation; `PLACEHOLDER_SPLIT` for one that is not needed."""
        if not self.read:
            if self.splits is None:
                registry.find('data', self.keys['name'])  # raises UserError for an unknown name
            return PLACEHOLDER_SPLIT, PLACEHOLDER_SPLIT
        splits = self.splits
        if splits is None:
            splits = open_splits(self.keys['name'], self.keys, languages)
        opened = dataclasses.replace(self, splits=splits)
        train = opened.open(self.keys['train_split']) if self.training else PLACEHOLDER_SPLIT
        return train, opened.open(self.keys['eval_split'])

    @property
    def reading(self) -> dict[str, Any]:
        """How examples are read: arguments of `train_batches` and `eval_batches`."""
        return {name: self.keys[name] for name in ('skip_corrupt', 'threads', 'workers')}


@dataclasses.dataclass(frozen=True)
class ExampleData:
    """Examples for training and for evaluation, usually of images.

    Each key that a transform returns becomes an array of the batch. Images are normalised on the device.

    Attributes:
      train: source or stream of the training examples, or `PLACEHOLDER_SPLIT`.
      evaluation: source of the evaluation examples.
      train_transform, eval_transform: (example, rng) -> arrays.
      preprocess: turns images into inputs of the model; None if examples have no image.
      images: keys of the images.
      labels: names of the classes, None if there are no classes.
      seed: of the run.
      reading: how examples are read, see `DataOptions.reading`.
      data_spec: arrays with the shapes and dtypes of an example, for data that are not read; else empty.
    """

    train: Any
    evaluation: Any
    train_transform: Transform
    eval_transform: Transform
    preprocess: Preprocess | None
    images: tuple[str, ...]
    labels: tuple[str, ...] | None
    seed: int
    reading: Mapping[str, Any]
    data_spec: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def train_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Endless batches of this host's part, `batch_size` examples each."""
        from vitjax.data.pipeline import stream_batches, train_batches

        make = stream_batches if is_stream(self.train) else train_batches
        return make(
            self.train,
            self.train_transform,
            batch_size=batch_size,
            seed=self.seed,
            shard=shard,
            **self.reading,
        )

    def eval_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Every example once, in batches of this host's part; padding is masked."""
        from vitjax.data.pipeline import eval_batches

        return eval_batches(
            self.evaluation, self.eval_transform, batch_size=batch_size, shard=shard, **self.reading
        )

    def on_device(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Normalises the images of a batch; part of the jitted step."""
        if self.preprocess is None:
            return batch
        keys = [key for key in self.images if key in batch]
        return batch | {key: self.preprocess.normalise(batch[key]) for key in keys}

    def batch_shapes(self, batch_size: int, train: bool = True) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a global batch, from `data_spec` or the first readable example."""
        shapes = {
            key: jax.ShapeDtypeStruct((batch_size, *array.shape), array.dtype)
            for key, array in (self.data_spec or self._first_example(train)).items()
        }
        return shapes | {'mask': jax.ShapeDtypeStruct((batch_size,), jnp.bool_)}

    def _first_example(self, train: bool) -> Mapping[str, np.ndarray]:
        from vitjax.data.pipeline import first_readable

        transform = self.train_transform if train else self.eval_transform
        if train and is_stream(self.train):
            iterator = iter(self.train)
            try:
                return transform(next(iterator), np.random.default_rng(0))
            finally:
                iterator.close()
        source = self.train if train and self.train is not PLACEHOLDER_SPLIT else self.evaluation
        return first_readable(source, transform)

    def save(self, folder: Path) -> None:
        """Writes labels and, for images, the preprocessing and one example image into a run's folder."""
        write_atomically(folder / 'labels.json', json.dumps(self.labels) + '\n')
        if self.preprocess is None:
            return
        self.preprocess.save(folder)
        for index in range(len(self.evaluation)):
            example = self.evaluation[index]
            if not (isinstance(image := example.get('image'), EncodedImage) or _is_picture(image)):
                return
            try:
                pixels = decode(image, self.preprocess.channels)
            except CorruptExample:
                continue
            name = re.sub(r'\W+', '_', self._label_of(example))
            to_picture(pixels).save(file := io.BytesIO(), 'png')
            write_atomically(folder / 'examples' / f'{name}.png', file.getvalue())
            return

    def _label_of(self, example: Mapping[str, Any]) -> str:
        label = np.asarray(example.get('label', 'image'))
        if self.labels and label.shape == () and label.dtype.kind in 'iu':
            return self.labels[int(label)]
        return str(label) if label.shape == () else 'image'


def _is_picture(image: Any) -> bool:
    """Whether an image can be written to a PNG file and read again without loss."""
    return (
        isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[-1] in (1, 3, 4)
    )


def open_examples(
    options: DataOptions,
    transform: Callable[..., Mapping[str, Any]],
    images: tuple[str, ...] = ('image',),
) -> ExampleData:
    """Opens the data that a config names; the training data only if `options.training`.

    Args:
      transform: (example, rng, augment=, train=) -> arrays of a batch, see `vitjax.Task.transform`.
      images: keys of the images that it returns, which are normalised.

    Raises:
      UserError: the data are missing, or `augment` does not fit them.
    """
    train, evaluation = options.open_both()
    preprocess = _preprocess(options.keys, options.model, evaluation)
    augment: Transform = identity
    prepare: Transform = identity
    one_size = None
    if preprocess is not None:
        prepare = Preprocessed(preprocess)
        if getattr(options.model, 'image_size', None) is None:
            one_size = preprocess.image_size
    if options.training:
        values = {key: value for key, value in options.augment.items() if key != 'name'}
        augment = make_augment(options.augment['name'], values, preprocess)
    data_spec: dict[str, np.ndarray] = {}
    if not options.read and preprocess is not None:
        image = np.zeros((*preprocess.image_size, preprocess.channels), np.uint8)
        data_spec = {'image': image, 'label': np.zeros((), np.int32)}
    return ExampleData(
        train,
        evaluation,
        TaskTransform(transform, augment, True, one_size),
        TaskTransform(transform, prepare, False, one_size),
        preprocess,
        images,
        getattr(train if train is not PLACEHOLDER_SPLIT else evaluation, 'labels', None),
        options.seed,
        options.reading,
        data_spec,
    )


@dataclasses.dataclass(frozen=True)
class TaskTransform:
    """Turns an example of a source into the arrays of a batch, by the transform of a task.

    Attributes:
      one_size: height and width that all images must have, for a model without `image_size`; None: any.
    """

    transform: Callable[..., Mapping[str, Any]]
    augment: Transform
    train: bool
    one_size: tuple[int, int] | None = None

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        if self.one_size is not None and 'image' in example:
            image = decode(example['image'])
            if image.shape[:2] != self.one_size:
                found, expected = (f'{h} x {w}' for h, w in (image.shape[:2], self.one_size))
                raise UserError(
                    f'its image is {found}, but the first one is {expected}: a model without image_size '
                    'takes images of one size'
                )
            example = dict(example) | {'image': image}
        return to_arrays(self.transform(example, rng, augment=self.augment, train=self.train))


def read_labels(run: Path) -> tuple[str, ...] | None:
    """Names of the classes of a run; None if they are unknown."""
    path = run / 'labels.json'
    labels = read_json(path)
    if labels is not None and not (isinstance(labels, list) and all(map(_is_name, labels))):
        raise UserError(f'{path} is damaged: it is not a list of names')
    return tuple(labels) if labels else None


def _is_name(label: object) -> bool:
    return isinstance(label, str)


def _preprocess(keys: Mapping[str, Any], model: nn.Module, evaluation: Any) -> Preprocess | None:
    """Preprocessing for the model's image_size and in_channels, or else those of the first image."""
    size, channels = getattr(model, 'image_size', None), getattr(model, 'in_channels', None)
    if size is None or channels is None:
        image = evaluation[0].get('image') if evaluation is not PLACEHOLDER_SPLIT else None
        if image is None:
            return None
        height, width, present = decode(image).shape
        size, channels = size or (height, width), channels or present
    size = (size, size) if isinstance(size, int) else tuple(size)
    facts = {name: keys[name] for name in PREPROCESSING}
    return Preprocess(size, channels, **facts)
