"""Every key of a config: its type, its range, its default and what it means.

Where a part has a `name`, it is a built-in short name or an import path 'package.module:Attr', and the
arguments of what it names are further keys of the part.
"""

import dataclasses
from typing import Annotated, Any, Literal

from vitjax.config.types import Count, Duration, Fraction, NotNegative, Positive, Range

# Keys of `data` that pretrained weights may define: how pixels become the model's input.
PREPROCESSING = ('crop', 'mean', 'std', 'interpolation', 'squash')

Filter = Literal['nearest', 'box', 'bilinear', 'hamming', 'bicubic', 'lanczos']  # Pillow's


@dataclasses.dataclass(frozen=True)
class Task:
    # What is learned: classification, masked_autoencoding, translation; see vitjax/tasks.
    # Here and for the other parts with a name, None: an object that was given in Python.
    name: str | None = 'classification'


@dataclasses.dataclass(frozen=True)
class Model:
    # `vitjax models` lists the names; the constructor's arguments follow. `num_classes` is None for the
    # number of the data's classes. Name None: what `pretrained` is.
    name: str | None = 'vit_ti16'
    pretrained: str | None = None  # weights to start from, as `vitjax.load` takes them
    # Submodules that start from other weights: {'vit': 'runs/simclr'}, path of the submodule -> source.
    load: dict[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Data:
    # digits, idx, cifar, folder; for translation phrasebook, parallel, libreoffice; or tfds:NAME
    name: str | None = 'digits'
    path: str | None = None  # folder of the data; for tfds its data_dir
    train_split: str = 'train'  # parts as TFDS writes them: 'train[:90%]', 'train[10:20]+test'
    eval_split: str = 'test'
    # For the next five keys, None means: use the pretrained model's value.
    mean: tuple[float, ...] | None = (0.5,)  # of pixels in [0, 1], for all channels or one each
    std: tuple[float, ...] | None = (0.5,)
    crop: Annotated[float, Range(0.01, 1)] | None = 1.0  # share of the side kept in evaluation
    interpolation: Filter | None = 'bicubic'  # where images are resized
    squash: bool | None = False  # True: to the model's proportions, instead of cutting the rest off
    skip_corrupt: bool = False  # True: unreadable examples are left out, counted and reported
    threads: Count | None = None  # that read and decode; None: one more than there are cores
    # If more than 0, this number of processes reads and decodes instead of threads.
    workers: Annotated[int, Range(low=0)] = 0


@dataclasses.dataclass(frozen=True)
class Text:
    languages: tuple[str, str] = ('ko', 'en')  # from, to
    tokenizer: Literal['unigram', 'bpe'] = 'unigram'  # trained on the sentences of both languages
    vocab_size: Count = 4000  # pieces at most; small data may not have as many
    max_length: Annotated[int, Range(low=2)] = 128  # tokens of a sentence and its end
    too_long: Literal['drop', 'cut'] = 'drop'  # training pairs above that; evaluation cuts
    pack: bool = True  # several sentences in a row of max_length tokens, else one


@dataclasses.dataclass(frozen=True)
class Augment:
    name: str | None = 'standard'  # see vitjax/data/transforms.py; what changes training examples


@dataclasses.dataclass(frozen=True)
class Optimizer:
    # sgd, adam, adamw, lamb, lion, adafactor, muon. An import path names a function that returns a
    # complete optax transformation, such as 'optax:nadamw': it has its own weight decay.
    name: str | None = 'adamw'
    learning_rate: NotNegative = 1e-3  # the peak that the schedule scales
    # Decoupled: times the learning rate, as in AdamW. None: none, or the default of an import path's.
    weight_decay: NotNegative | None = None
    # Regular expressions, searched in parameter names such as 'encoder/blocks/mlp/out/kernel':
    no_decay: tuple[str, ...] = ('bias$', 'scale$', 'tokens?$', 'positions$')
    frozen: tuple[str, ...] = ()  # these stay as they are
    layer_decay: Positive | None = None  # factor on the learning rate for each layer further down
    clip_norm: Positive | None = None  # greatest global norm of the gradient
    accumulate: Count = 1  # micro-batches a step; batch_size is what all of them hold
    ema: Fraction | None = None  # decay a step of averaged parameters, which are then evaluated
    nonfinite: Literal['stop', 'skip'] = 'stop'  # on a loss or gradient that is not finite


@dataclasses.dataclass(frozen=True)
class Schedule:
    # constant, cosine, linear, rsqrt. An import path names a function that returns an optax schedule.
    name: str | None = 'cosine'
    warmup: Duration = 0  # linear from 0
    cooldown: Duration = 0  # linear to 0 at the end


@dataclasses.dataclass(frozen=True)
class Eval:
    every: Duration | None = None  # None: at the end only
    batch_size: Count | None = None  # None: as in training


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Keys of each entry of `evals`: an evaluation besides that of the task."""

    name: str | None = None  # metrics, few_shot, knn; None: the name of the entry
    every: Duration | None = None  # None: as `eval.every`
    split: str | None = None  # None: `data.eval_split`
    data: dict[str, Any] | None = None  # keys of `data` that differ, such as {'path': ...}


@dataclasses.dataclass(frozen=True)
class Callback:
    """Keys of each entry of `callbacks`, which are called at logs, evaluations and checkpoints."""

    name: str | None = None  # wandb, mlflow, predictions; None: the name of the entry


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: Duration | None = '1 epoch'  # None: at the end only
    keep: Count = 2  # number of newest checkpoints to keep
    # A metric of the evaluation, as 'accuracy' or '-loss' (less is better), or of `evals`: 'knn/accuracy'.
    best: str | None = None
    keep_best: Count = 1  # number of best checkpoints to keep, if `best` is given


@dataclasses.dataclass(frozen=True)
class Log:
    every: Duration = 50
    tensorboard: bool = True
    # Steps (from, to) of which a trace is written to the run's folder `profile`, for TensorBoard or Perfetto.
    profile: tuple[Count, Count] | None = None


@dataclasses.dataclass(frozen=True)
class Precision:
    # Of the computation; parameters, norms, softmax and loss stay float32.
    compute: Literal['float32', 'bfloat16'] = 'float32'
    matmul: Literal['default', 'high', 'highest'] = 'default'  # of float32 matrix products


@dataclasses.dataclass(frozen=True)
class Mesh:
    # Copies of the model; -1: all devices that the other axes leave.
    data: Annotated[int, Range(low=-1)] = -1
    fsdp: Count = 1  # parts of parameters, optimizer state and, again, the batch
    tensor: Count = 1  # parts of the heads and MLPs


@dataclasses.dataclass(frozen=True)
class Config:
    """All keys of a config, in the order in which a recipe gives them."""

    # All randomness is a function of seed, step and example.
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    task: Task = Task()
    model: Model = Model()
    data: Data = Data()
    text: Text = Text()
    batch_size: Count = 128  # examples a step, over all devices and hosts
    # How long to train: one of these three; if all are None, an epoch.
    steps: Annotated[int, Range(1, 2**31 - 1)] | None = None
    epochs: Annotated[float, Range(low=1e-6)] | None = None
    examples: Count | None = None
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    eval: Eval = Eval()
    evals: dict[str, Evaluation] = dataclasses.field(default_factory=dict)
    callbacks: dict[str, Callback] = dataclasses.field(default_factory=dict)
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    precision: Precision = Precision()
    mesh: Mesh = Mesh()
