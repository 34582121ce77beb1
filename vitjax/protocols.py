"""What each part of a run has to offer, be it vitjax's own or of another package.

Nothing has to inherit from a class here: what offers the attributes is one. Where an ability is optional, it
is asked for by its name. All arrays of a batch have the batch size B as their first axis. A model is a Flax
Linen module; its `init` and `apply` are Flax's.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Variables = Mapping[str, Any]  # what `model.apply` takes: {'params': ..., other collections ...}
Batch = Mapping[str, Any]  # name -> array [B, ...], and 'mask', bool [B]: False for padding
Example = Mapping[str, Any]  # name -> array, number, or an image that is not decoded yet
Metrics = Mapping[str, float]


class Model(Protocol):
    """A Flax Linen module. Only `__call__` is required; its inputs are arrays of a batch.

    Constructor arguments are the keys of `config.model`. These are given where the constructor accepts them:
    `dtype` (of the computation, from `config.precision.compute`), and `num_classes`, where the config leaves
    it open. `__call__` gets `train=True` or `train=False`, or Flax's `deterministic=`, where it accepts it.

    Attributes that are read where a model has them:
      image_size: int or (height, width); images are resized to it. Without it, images have one size.
      in_channels: images are converted to this number of channels. Without it, they keep theirs.
      num_classes: how many classes its logits [B, K] tell apart.
      stacked: names of submodules whose parameters have a leading axis of layers. Read in submodules, too.
      before_blocks: names of submodules and parameters that come before a stack, for
        `config.optimizer.layer_decay`. Read in submodules, too. See `vitjax.layers.stacks` for both.
    """

    def __call__(self, *inputs: Any) -> Any: ...


@runtime_checkable
class HasExampleInputs(Protocol):
    """A model that says with which inputs it is initialised, where `image_size` and the batch do not."""

    def example_inputs(self) -> tuple[Any, ...]:
        """Arrays or `jax.ShapeDtypeStruct`s with a batch axis of 1, as `__call__` takes them."""


@runtime_checkable
class HasFeatures(Protocol):
    """A model with representations, for `vitjax attend`, kNN, few-shot evaluation and analysis."""

    def features(
        self, images: Any, *, attention: bool = False, train: bool = False
    ) -> Mapping[str, Any]:
        """'pooled' [B, D], and as far as it has them 'tokens' [B, N, D], 'prefix' [B, P, D], 'blocks',
        a tuple with the output of each block, and, if asked for, 'attention': [L, B, h, T, T], or a tuple of
        maps [B, H_i, W_i, maps] of the importance of places."""


@runtime_checkable
class HasPoolingWeights(Protocol):
    """A model whose `features` are of tokens, for `vitjax attend`; it also has image_size and patch_size."""

    def pooling_weights(self, features: Mapping[str, Any]) -> Any:
        """Features as `features` returns them -> [B, P + N], each token's share of the pooled vector."""


@runtime_checkable
class HasWindows(Protocol):
    """A model whose theoretical receptive fields are known, for `vitjax.analysis.receptive_field`."""

    def windows(self) -> Mapping[str, tuple[Any, ...]]:
        """Layer -> `vitjax.layers.convolution.Window`s from the map before to its map, the image first."""


@runtime_checkable
class Decodes(Protocol):
    """A model that writes a sequence token after token, for `vitjax.generation`."""

    def encode(self, source: Any, source_mask: Any = None) -> Any:
        """source int [B, S] -> encoded [B, S, D]."""

    def prefill(self, encoded: Any, source_mask: Any = None, *, max_length: int) -> Any:
        """An empty cache for `max_length` target tokens."""

    def decode_step(self, tokens: Any, cache: Any) -> tuple[Any, Any]:
        """The next tokens [B, n] -> logits [B, n, V] and the cache."""


@runtime_checkable
class HasEncoder(Protocol):
    """A model that is pre-trained for the encoder in it, as a masked autoencoder is."""

    def encoder(self) -> Any:
        """The encoder alone, a model whose parameters are those under `vit`."""


class Source(Protocol):
    """Examples by index: what a data set's split is.

    Only `__len__` and `__getitem__` are required: a list of examples is a source. An example is a dict of
    numbers and arrays; every key, shape and dtype reaches the task. An image is [H, W, C], uint8, uint16 or
    float; an image file still to be decoded is a `vitjax.data.images.EncodedImage`. The key 'mask' is
    reserved.

    Attributes:
      name: what messages call the data.
      labels: names of the classes, None where they are unknown.
    """

    name: str
    labels: tuple[str, ...] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def describe(self, index: int) -> str:
        """Names one example in an error: its file, or its index."""


class Data(Protocol):
    """What `config.data.name` names: a function or class that is called with the keys of `config.data`.

    It returns split -> `Source`, or a function without arguments that opens it. The split to train on may
    also be a `grain.IterDataset`, a stream of examples. `path` is given only where it is an argument, and
    so are `languages`, for translation.
    """

    def __call__(self, **keys: Any) -> Mapping[str, Any]: ...


class TaskData(Protocol):
    """The data of a run as a task has opened them: batches for training and for evaluation.

    Attributes:
      train: the source to train on, of which the number of examples in an epoch is taken.
      evaluation: the source to evaluate on.
      preprocess: turns what a user has (image files, texts) into the inputs of the model; None for no such.
      labels: names of the classes, None if there are none.
    """

    train: Any
    evaluation: Any
    preprocess: Any
    labels: tuple[str, ...] | None

    def train_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Endless batches of this host's part: a `grain.IterDataset` whose iterators have a state."""

    def eval_batches(self, batch_size: int, shard: tuple[int, int]) -> Iterable[Batch]:
        """Every example once, in batches of this host's part; padding is masked."""

    def on_device(self, batch: Batch) -> Batch:
        """A batch as the model takes it, of one as it travels; part of the jitted step."""

    def batch_shapes(self, batch_size: int, train: bool = True) -> Mapping[str, Any]:
        """`jax.ShapeDtypeStruct` of each array of a batch as it travels, of all hosts."""

    def save(self, folder: Path) -> None:
        """Writes into a run's folder what the use of its model takes."""


class Layout(Protocol):
    """A layout of foreign weights; those that vitjax has are in `vitjax.pretrained.layouts`.

    A layout that writes also has `write`, see `vitjax.pretrained.layouts.base.Layout`.

    Attributes:
      name: in `Pretrained.info` and in messages.
      weights: name of the file of weights in a folder of this layout.
    """

    name: str
    weights: str

    def recognises(self, checkpoint: Any) -> bool:
        """Whether the tensors and the config.json of a checkpoint are of this layout."""

    def read(self, checkpoint: Any, overrides: Mapping[str, Any]) -> Any:
        """The parts of a model: name, arguments, parameters, preprocessing."""


@dataclasses.dataclass(frozen=True)
class EvaluationEvent:
    """What an evaluator is called with, at each evaluation.

    Attributes:
      step: of training.
      experiment: has `model`, `task`, `data`, `mesh` and `context()`, under which arrays are computed.
      variables: the model's, sharded as the experiment's mesh says; the averaged ones where there are any.
      split: name of the split to evaluate on.
      train_split: name of the split that the run is trained on.
      batches: the batches of `split`, to iterate over; `batches(split=...)` gives those of another split
        of the same data. Every example comes once. A batch is a dict of arrays over all devices, as the
        model takes them, with `mask`, bool [B], False for padding.
      evaluate: gives the metrics of the run's task on `split`.
    """

    step: int
    experiment: Any
    variables: Variables
    split: str
    train_split: str
    batches: Any
    evaluate: Callable[[], dict[str, float]]


class Evaluator(Protocol):
    """What an entry of `config.evals` names: called at each evaluation, on every host."""

    def __call__(self, event: EvaluationEvent) -> Metrics:
        """name -> number; the same on every host."""


@dataclasses.dataclass(frozen=True)
class Event:
    """What a callback is called with.

    Attributes:
      kind: 'log', 'eval', 'checkpoint' (it is being written) or 'end' (of the run, or of this part of it).
      step: of training.
      name: of a log 'train'; of an evaluation its split, or its name in `config.evals`.
      metrics: what was measured; of a checkpoint and at the end, those of the newest evaluation.
      variables: the model's; the averaged ones where there are any. They are given away to the next step:
        copy what is to be kept.
      experiment: the run's `Experiment`.
      config: the complete config, as plain dicts.
      workdir: folder of the run.
    """

    kind: str
    step: int
    name: str
    metrics: Metrics
    variables: Variables
    experiment: Any
    config: Mapping[str, Any]
    workdir: Path


class Callback(Protocol):
    """What an entry of `config.callbacks` names, or is given to `vitjax.train`; called on every host."""

    def __call__(self, event: Event) -> Metrics | None:
        """What it returns joins the record of the event in `metrics.jsonl`."""


Batches = Iterator[Batch]
