"""Convolutions, norms and residual blocks: each feature is computed from a small part of the image."""

import functools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Float, Num

from vitjax.layers.arrays import Array
from vitjax.layers.choices import check_choice

Norm = Literal['group', 'batch', 'none']


class Window(NamedTuple):
    """The window of a layer on its input map, with SAME padding.

    Attributes:
      kernel: height and width of the window; None for the whole map.
      stride: rows and columns from one window to the next.
    """

    kernel: tuple[int, int] | None
    stride: tuple[int, int]


def standardise(
    kernel: Float[Array, '*axes features'], epsilon: float = 1e-5
) -> Float[Array, '*axes features']:
    """Weight standardisation (Qiao et al. 2019): each filter gets mean 0 and standard deviation 1.

    Both are taken over all axes but the last. `epsilon` is added to the deviation, not to the variance, as
    in the hybrids of google-research/vision_transformer (vit_jax/models_resnet.py).
    """
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - kernel.mean(axes)
    return centred / (kernel.std(axes) + epsilon)


class Convolution(nn.Module):
    """A convolution over one, two or three spatial axes.

    Attributes:
      features: output channels C'.
      kernel_size: one length per spatial axis.
      stride: along every axis.
      padding: 'SAME' (zeros, ceil(length / stride) places) or 'VALID' (only where the kernel fits).
      use_bias: whether to add a bias.
      standardised: whether to standardise the kernel (see `standardise`). A kernel with a single input
        value is never standardised, because it would become 0.
      dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: tuple[int, ...]
    stride: int = 1
    padding: Literal['SAME', 'VALID'] = 'SAME'
    use_bias: bool = True
    standardised: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Num[Array, 'B *spatial C']) -> Float[jax.Array, 'B *out features']:
        """[B, *spatial, C] -> [B, *spatial, C']."""
        check_choice('padding', self.padding, ('SAME', 'VALID'))
        if not 1 <= len(self.kernel_size) <= 3:
            raise ValueError(f'kernel_size {self.kernel_size} must have one, two or three axes')
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.he_normal(), shape)
        if self.standardised and math.prod(shape[:-1]) > 1:
            kernel = standardise(kernel)
        x, kernel = jnp.asarray(x, self.dtype), jnp.asarray(kernel, self.dtype)
        axes = 'DHW'[-len(self.kernel_size) :]
        if math.prod(self.kernel_size) == 1:
            # A matrix product has a faster gradient on a CPU. With two axes it makes no copies.
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


def max_pool(x: Num[Array, 'B *spatial C'], size: int, stride: int) -> Num[jax.Array, 'B *out C']:
    """Maximum of each window [B, *spatial, C] -> [B, *ceil(spatial / stride), C], padding SAME.

    Computed as the maximum of shifted maps, one axis after the other. The gradient of XLA's own pooling is
    3 times slower on a CPU, as strided slices are, and converters to ONNX do not support it.
    """
    x = jnp.asarray(x)
    for axis in range(1, x.ndim - 1):
        length = x.shape[axis]
        places = -(-length // stride)
        before = max((places - 1) * stride + size - length, 0) // 2
        rows = places + (size - 1) // stride
        first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, length - 1))
        after = rows * stride - length - before
        # A window that reaches over the edge contains the edge, so repeating it changes no maximum.
        x = jnp.concatenate([first] * before + [x] + [last] * after, axis)
        x = x.reshape(*x.shape[:axis], rows, stride, *x.shape[axis + 1 :])
        every = jnp.unstack(x, axis=axis + 1)  # every stride-th row, from row 0, 1, ...
        shifted = (
            jax.lax.slice_in_dim(every[i % stride], i // stride, i // stride + places, axis=axis)
            for i in range(size)
        )
        x = functools.reduce(jnp.maximum, shifted)
    return x


class GroupNorm(nn.Module):
    """Each image's groups of channels with mean 0 and variance 1 over all places (Wu and He 2018).

    The function is that of Flax, computed so that it and its gradient read a map fewer times: sums are
    over pixels only, and each channel of an image is multiplied by one factor and shifted by one offset.

    Attributes:
      num_groups: groups of channels; it divides them.
      scale_init: initial scale of the channels.
      dtype: of the result; the statistics are float32.
      epsilon: added to the variance.
    """

    num_groups: int
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    dtype: DTypeLike = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, 'B *spatial C']) -> Float[jax.Array, 'B *spatial C']:
        """[B, *spatial, C] -> [B, *spatial, C]."""
        features = x.shape[-1]
        grouped = (self.num_groups, features // self.num_groups)
        scale = self.param('scale', self.scale_init, (features,))
        bias = self.param('bias', nn.initializers.zeros, (features,))
        places = tuple(range(1, x.ndim - 1))
        x = jnp.asarray(x, jnp.float32)

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

    Group norm comes with standardised kernels, as in the hybrids of Dosovitskiy et al. 2021, section
    3.1. Batch norm (Ioffe and Szegedy 2015) has the collection `batch_stats`. In training its statistics
    include every row of the batch, also rows that a mask leaves out of the loss, such as the corrupt
    examples of `skip_corrupt`. Without a norm the convolution has a bias.

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
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Num[Array, 'B *spatial C'], *, train: bool = False
    ) -> Float[jax.Array, 'B *out features']:
        """[B, *spatial, C] -> [B, *spatial, C']; in training, batch norm uses statistics of the batch."""
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
    """Number of groups for group norm: the largest divisor up to 32 that leaves two channels per group.

    A group of one channel, on a map of one pixel, would be normalised to 0.
    """
    return max(n for n in range(1, 33) if n == 1 or (channels % n == 0 and channels >= 2 * n))


class ResidualBlock(nn.Module):
    """ReLU of the sum of the input and a learned branch (He et al. 2016, figures 2 and 5).

    'basic': two 3x3 convolutions. 'bottleneck': 1x1, 3x3 and 1x1 to four times the width; the 3x3
    has the stride ("v1.5"); in the original the first 1x1 has it. The scale of the last norm starts at 0,
    so that the block starts as its shortcut (Goyal et al. 2017, section 5.1), as in the hybrids.

    Attributes:
      width: channels of the 3x3 convolutions.
      kind: 'basic' or 'bottleneck'.
      stride: of the block, along both axes.
      norm, dtype: see `ConvBlock`.
    """

    width: int
    kind: Literal['basic', 'bottleneck'] = 'bottleneck'
    stride: int = 1
    norm: Norm = 'batch'
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, 'B H W C'], *, train: bool = False
    ) -> Float[jax.Array, 'B H2 W2 C2']:
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
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Num[Array, 'B H W C'], *, train: bool = False
    ) -> tuple[Float[jax.Array, 'B _ _ _'], ...]:
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

    A block has the windows of its convolutions, because its shortcut adds nothing to the receptive field.
    """
    windows: dict[str, tuple[Window, ...]] = {
        'root': (Window((7, 7), (2, 2)), Window((3, 3), (2, 2)))
    }
    for name, width, stride in _blocks(stage_depths, 1):
        windows[name] = tuple(
            Window((kernel, kernel), (step, step))
            for _, kernel, step in residual_layers(kind, width, stride)
        )
    return windows


def resnet_stride(stage_depths: tuple[int, ...]) -> int:
    """Stride of the last map of `ResNetBackbone` in pixels of the image."""
    return 4 * 2 ** max(len(stage_depths) - 1, 0)


def _blocks(stage_depths: tuple[int, ...], width: int) -> Iterator[tuple[str, int, int]]:
    """Name, width and stride of every residual block."""
    for stage, depth in enumerate(stage_depths):
        for index in range(depth):
            stride = 2 if stage and not index else 1
            yield f'stage{stage + 1}_block{index + 1}', width * 2**stage, stride
