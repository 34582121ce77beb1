"""A filter moves over the image and computes each feature from a part of it only."""

import functools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.choices import check_choice

Norm = Literal['group', 'batch', 'none']


class Window(NamedTuple):
    """How a layer moves over the map before it, with SAME padding.

    Attributes:
      kernel: height and width of what it sees at once; None for the whole map.
      stride: rows and columns from one place to the next.
    """

    kernel: tuple[int, int] | None
    stride: tuple[int, int]


def standardise(kernel: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """Weight standardisation (Qiao et al. 2019): each filter with mean 0 and standard deviation 1.

    Both are over all axes but the last. `epsilon` is added to the deviation, not to the variance, as
    in the hybrids of google-research/vision_transformer (vit_jax/models_resnet.py).
    """
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - kernel.mean(axes)
    return centred / (kernel.std(axes) + epsilon)


class Convolution(nn.Module):
    """A convolution over one, two or three spatial axes.

    Attributes:
      features: channels C' of the result.
      kernel_size: one number a spatial axis.
      stride: along every axis.
      padding: 'SAME' (zeros, ceil(length / stride) places) or 'VALID' (only where the kernel fits).
      use_bias: whether there is one.
      standardised: whether the kernel is used standardised. One that sees a single number is not,
        for nothing would be left of it.
      dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, ...]
    stride: int = 1
    padding: Literal['SAME', 'VALID'] = 'SAME'
    use_bias: bool = True
    standardised: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *spatial, C] -> [B, *spatial, C']."""
        check_choice('padding', self.padding, ('SAME', 'VALID'))
        if not 1 <= len(self.kernel_size) <= 3:
            raise ValueError(f'kernel_size {self.kernel_size} is not of one, two or three axes')
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.he_normal(), shape)
        if self.standardised and math.prod(shape[:-1]) > 1:
            kernel = standardise(kernel)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        axes = 'DHW'[-len(self.kernel_size) :]
        if math.prod(self.kernel_size) == 1:
            # A product of matrices, whose gradient is faster on a CPU; of two axes, no copies are made.
            x = x[:, *(slice(None, None, self.stride) for _ in axes)]
            pixels = x.reshape(-1, shape[-2]) @ kernel.reshape(shape[-2:])  # [B * places, C']
            x = pixels.reshape(*x.shape[:-1], self.features)
        else:
            x = jax.lax.conv_general_dilated(
                x,
                kernel,
                (self.stride,) * len(axes),
                self.padding,
                dimension_numbers=(f'N{axes}C', f'{axes}IO', f'N{axes}C'),
            )
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,))
            x = x + bias.astype(self.dtype)
        return x


def max_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """The greatest value in each window [B, *spatial, C] -> [B, *ceil(spatial / stride), C], padding SAME.

    It is the greatest of shifted maps, one axis after the other. The gradient of XLA's own pooling is
    3 times slower on a CPU, as strided slices are, and converters to ONNX do not know it.
    """
    for axis in range(1, x.ndim - 1):
        length = x.shape[axis]
        places = -(-length // stride)
        before = max((places - 1) * stride + size - length, 0) // 2
        rows = places + (size - 1) // stride
        first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, length - 1))
        after = rows * stride - length - before
        # The edge lies in every window that reaches over it: it may stand for what is outside.
        x = jnp.concatenate([first] * before + [x] + [last] * after, axis)
        x = x.reshape(*x.shape[:axis], rows, stride, *x.shape[axis + 1 :])
        every = jnp.unstack(x, axis=axis + 1)  # stride-th row, from the first, the second ...
        shifted = (
            jax.lax.slice_in_dim(every[i % stride], i // stride, i // stride + places, axis=axis)
            for i in range(size)
        )
        x = functools.reduce(jnp.maximum, shifted)
    return x


class GroupNorm(nn.Module):
    """Each image's groups of channels with mean 0 and variance 1 over all places (Wu and He 2018).

    It is Flax's, written so that it and its gradient read a map as few times as can be: its sums are
    over places alone, and what is applied is one factor and one offset for each channel of an image.

    Attributes:
      num_groups: groups of channels; it divides them.
      scale_init: initial scale of the channels.
      dtype: of the result; the statistics are float32.
      epsilon: added to the variance.
    """

    num_groups: int
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    dtype: jnp.dtype = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *spatial, C] -> the same."""
        features = x.shape[-1]
        grouped = (self.num_groups, features // self.num_groups)
        scale = self.param('scale', self.scale_init, (features,))
        bias = self.param('bias', nn.initializers.zeros, (features,))
        places = tuple(range(1, x.ndim - 1))
        x = x.astype(jnp.float32)

        def mean_of_groups(x):
            """[B, *spatial, C] -> [B, G, 1]."""
            of_channels = x.mean(places).reshape(-1, *grouped)
            return of_channels.mean(-1, keepdims=True)

        mean = mean_of_groups(x)
        variance = jnp.maximum(mean_of_groups(x * x) - mean * mean, 0)
        factor = scale.reshape(grouped) * jax.lax.rsqrt(variance + self.epsilon)  # [B, G, C / G]
        offset = bias.reshape(grouped) - mean * factor
        shape = (-1, *(1 for _ in places), features)
        return (x * factor.reshape(shape) + offset.reshape(shape)).astype(self.dtype)


class ConvBlock(nn.Module):
    """Convolution, norm, ReLU, over any number of spatial axes.

    Group norm goes with standardised kernels, as in the hybrids of Dosovitskiy et al. 2021, section
    3.1; batch norm (Ioffe and Szegedy 2015) keeps `batch_stats`. In training it counts every row of
    the batch, those too that a mask leaves out of the loss, such as the corrupt examples of
    `skip_corrupt`. Without a norm the convolution has a bias.

    Attributes:
      features, kernel_size, stride, padding, dtype: see `Convolution`.
      norm: 'group', 'batch' or 'none'.
      relu: whether ReLU follows.
      norm_scale: initial scale of the norm.
    """

    features: int
    kernel_size: tuple[int, ...]
    stride: int = 1
    padding: Literal['SAME', 'VALID'] = 'SAME'
    norm: Norm = 'group'
    relu: bool = True
    norm_scale: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[B, *spatial, C] -> [B, *spatial, C']; in training, batch norm looks at the batch."""
        check_choice('norm', self.norm, get_args(Norm))
        x = Convolution(
            self.features,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            use_bias=self.norm == 'none',
            standardised=self.norm == 'group',
            dtype=self.dtype,
            name='convolution',
        )(x)
        scale = nn.initializers.constant(self.norm_scale)
        if self.norm == 'group':
            groups = num_groups(self.features)
            x = GroupNorm(groups, scale, self.dtype, name='norm')(x)
        elif self.norm == 'batch':
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                dtype=self.dtype,
                scale_init=scale,
                name='norm',
            )(x)
        if self.relu:
            x = nn.relu(x)
        return nn.with_logical_constraint(x, ('batch', *(None,) * (x.ndim - 1)))


def num_groups(channels: int) -> int:
    """Groups of group norm: 32, or the most below that divide the channels and hold two or more each.

    A channel alone, on a map of one pixel, would be normalised to nothing.
    """
    return max(n for n in range(1, 33) if n == 1 or (channels % n == 0 and channels >= 2 * n))


class ResidualBlock(nn.Module):
    """What the block adds to its input is learned (He et al. 2016, figures 2 and 5), ReLU after it.

    'basic': two 3x3 convolutions. 'bottleneck': 1x1, 3x3 and 1x1 to four times the width; the 3x3
    carries the stride ("v1.5"), the original the first 1x1. The last norm's scale starts at 0, so
    that the block starts as its shortcut (Goyal et al. 2017, section 5.1), as in the hybrids.

    Attributes:
      width: channels of the 3x3 convolutions.
      kind: 'basic' or 'bottleneck'.
      stride: rows and columns to the next place.
      norm, dtype: see `ConvBlock`.
    """

    width: int
    kind: Literal['basic', 'bottleneck'] = 'bottleneck'
    stride: int = 1
    norm: Norm = 'batch'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, C']."""

        def block(name, features, kernel, stride, **options):
            return ConvBlock(
                features,
                (kernel, kernel),
                stride,
                norm=self.norm,
                dtype=self.dtype,
                name=name,
                **options,
            )

        *layers, last = residual_layers(self.kind, self.width, self.stride)
        y = x
        for index, layer in enumerate(layers, 1):
            y = block(f'conv{index}', *layer)(y, train=train)
        y = block(f'conv{len(layers) + 1}', *last, relu=False, norm_scale=0.0)(y, train=train)
        features = last[0]
        if self.stride != 1 or x.shape[-1] != features:
            x = block('projection', features, 1, self.stride, relu=False)(x, train=train)
        return nn.relu(x + y)


def residual_layers(kind: str, width: int, stride: int) -> tuple[tuple[int, int, int], ...]:
    """Features, kernel size and stride of each convolution in a `ResidualBlock`."""
    check_choice('kind', kind, ('basic', 'bottleneck'))
    if kind == 'basic':
        return (width, 3, stride), (width, 3, 1)
    return (width, 1, 1), (width, 3, stride), (4 * width, 1, 1)


class ResNetBackbone(nn.Module):
    """ResNet without its head: root, then stages of residual blocks (He et al. 2016, table 1).

    The root is a 7x7 convolution and a 3x3 max pool, each with stride 2. Every stage but the first
    begins with stride 2 and has twice the width of the one before. All padding is SAME.

    Attributes:
      stage_depths: blocks of each stage; () for the root only.
      kind: of the blocks, see `ResidualBlock`.
      width: channels of the root, and of the 3x3 convolutions in the first stage.
      norm, dtype: see `ConvBlock`.
    """

    stage_depths: tuple[int, ...]
    kind: Literal['basic', 'bottleneck'] = 'bottleneck'
    width: int = 64
    norm: Norm = 'batch'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> tuple[jax.Array, ...]:
        """Images [B, H, W, C] -> maps [B, H_i, W_i, C_i] after the root and after each block."""
        root = ConvBlock(self.width, (7, 7), 2, norm=self.norm, dtype=self.dtype, name='root')
        x = root(images, train=train)  # [B, H / 2, W / 2, C_0]
        maps = [max_pool(x, 3, 2)]  # [B, H / 4, W / 4, C_0]
        for name, width, stride in _blocks(self.stage_depths, self.width):
            block = ResidualBlock(width, self.kind, stride, self.norm, self.dtype, name=name)
            maps.append(block(maps[-1], train=train))
        return tuple(maps)


def resnet_windows(stage_depths: tuple[int, ...], kind: str) -> dict[str, tuple[Window, ...]]:
    """Windows of the root and of each block of `ResNetBackbone`, each from the entry before it.

    A block's are those of its convolutions: its shortcut sees no more.
    """
    windows = {'root': (Window((7, 7), (2, 2)), Window((3, 3), (2, 2)))}
    for name, width, stride in _blocks(stage_depths, 1):
        windows[name] = tuple(
            Window((kernel, kernel), (step, step))
            for _, kernel, step in residual_layers(kind, width, stride)
        )
    return windows


def resnet_stride(stage_depths: tuple[int, ...]) -> int:
    """Pixels from one place of the last map of `ResNetBackbone` to the next."""
    return 4 * 2 ** max(len(stage_depths) - 1, 0)


def _blocks(stage_depths: tuple[int, ...], width: int) -> Iterator[tuple[str, int, int]]:
    """Name, width and stride of every residual block."""
    for stage, depth in enumerate(stage_depths):
        for index in range(depth):
            stride = 2 if stage and not index else 1
            yield f'stage{stage + 1}_block{index + 1}', width * 2**stage, stride
