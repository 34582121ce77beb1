"""Every key of a config: its type, its range, its default and what it means."""

import dataclasses
from typing import Annotated, Literal

from vitjax.config.types import Count, Duration, Fraction, NotNegative, Positive, Range

# Keys of `data` that pretrained weights may tell: how pixels become what a model takes.
PREPROCESSING = ('crop', 'mean', 'std', 'interpolation', 'squash')

Filter = Literal['nearest', 'box', 'bilinear', 'hamming', 'bicubic', 'lanczos']  # Pillow's


@dataclasses.dataclass(frozen=True)
class Task:
    name: str = 'classification'  # what is learned; its own arguments follow, see vitjax/tasks


@dataclasses.dataclass(frozen=True)
class Model:
    # `vitjax models` lists the names; the constructor's arguments follow. None: what `pretrained` is.
    name: str | None = 'vit_ti16'
    pretrained: str | None = None  # weights to start from, as `vitjax.load` takes them


@dataclasses.dataclass(frozen=True)
class Data:
    # digits, idx, cifar, folder; for translation phrasebook, parallel, libreoffice; or tfds:NAME
    name: str = 'digits'
    path: str | None = None  # folder of the data; for tfds its data_dir
    train_split: str = 'train'  # parts as TFDS writes them: 'train[:90%]', 'train[10:20]+test'
    eval_split: str = 'test'
    # None, for each of the next five: as `model.pretrained` has it.
    mean: tuple[float, ...] | None = (0.5,)  # of pixels in [0, 1], for all channels or one each
    std: tuple[float, ...] | None = (0.5,)
    crop: Annotated[float, Range(0.01, 1)] | None = 1.0  # share of the side kept in evaluation
    interpolation: Filter | None = 'bicubic'  # where images are resized
    squash: bool | None = False  # True: to the model's proportions, instead of cutting the rest off
    skip_corrupt: bool = False  # True: unreadable examples are left out, counted and reported
    threads: Count | None = None  # that read and decode; None: one more than there are cores
    workers: Annotated[int, Range(low=0)] = 0  # processes that do so instead, if more than 0


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
    crop: tuple[float, float] | None = None  # random-resized: least, greatest share of the area
    aspect: tuple[float, float] = (3 / 4, 4 / 3)  # and least and greatest width / height
    fast: bool = False  # JPEGs in two thirds of the time, without antialiasing; see README
    flip: bool = False  # left to right, for half of the examples
    shift: Annotated[int, Range(low=0)] = 0  # at most so many pixels each way; whole ones, if alone
    rotate: NotNegative = 0.0  # at most so many degrees each way
    scale: NotNegative = 0.0  # height and width each larger or smaller by at most this share
    # (operations an image, their magnitude from 0 to 1), see vitjax/data/randaugment.py
    randaugment: tuple[Count, Fraction] | None = None


@dataclasses.dataclass(frozen=True)
class Optimizer:
    name: str = 'adamw'  # sgd, adam, adamw, lamb, lion, adafactor, muon; its own arguments follow
    learning_rate: NotNegative = 1e-3  # the peak that the schedule scales
    weight_decay: NotNegative = 0.0  # decoupled: times the learning rate, as in AdamW
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
    name: str = 'cosine'  # constant, cosine, linear, rsqrt; its own arguments follow
    warmup: Duration = 0  # linear from 0
    cooldown: Duration = 0  # linear to 0 at the end


@dataclasses.dataclass(frozen=True)
class Eval:
    every: Duration | None = None  # None: at the end only
    batch_size: Count | None = None  # None: as in training


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    every: Duration | None = '1 epoch'  # None: at the end only
    keep: Count = 2  # the newest so many
    best: str | None = None  # a metric of the evaluation, as 'accuracy' or '-loss' (less is better)
    keep_best: Count = 1  # the best so many, if `best` is given


@dataclasses.dataclass(frozen=True)
class Log:
    every: Duration = 50
    tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class Precision:
    compute: Literal['float32', 'bfloat16'] = 'float32'  # not of parameters, norms, softmax, loss
    matmul: Literal['default', 'high', 'highest'] = 'default'  # of float32 matrix products


@dataclasses.dataclass(frozen=True)
class Mesh:
    data: Annotated[int, Range(low=-1)] = -1  # copies of the model; -1: whatever devices are left
    fsdp: Count = 1  # parts of parameters, optimizer state and, again, the batch
    tensor: Count = 1  # parts of the heads and MLPs


@dataclasses.dataclass(frozen=True)
class Config:
    """All keys of a config, in the order in which a recipe gives them."""

    seed: Annotated[int, Range(0, 2**32 - 1)] = (
        0  # with step and example it settles everything random
    )
    task: Task = Task()
    model: Model = Model()
    data: Data = Data()
    text: Text = Text()
    batch_size: Count = 128  # examples a step, over all devices and hosts
    steps: Annotated[int, Range(1, 2**31 - 1)] | None = (
        None  # how long to train: one of these three
    )
    epochs: Annotated[float, Range(low=1e-6)] | None = None
    examples: Count | None = None
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    precision: Precision = Precision()
    mesh: Mesh = Mesh()
