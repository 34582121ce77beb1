"""The Vision Transformer (Dosovitskiy et al. 2021), of any image and patch size."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float, Int

from vitjax.layers.arrays import Array
from vitjax.layers.block import BlockConfig
from vitjax.layers.convolution import ResNetBackbone, Window, resnet_stride, resnet_windows
from vitjax.layers.patches import PatchEmbedding, as_pair, grid_size, nearest_multiples
from vitjax.layers.pooling import AttentionPooling
from vitjax.layers.positions import FIXED, axial_angles
from vitjax.layers.transformer import Encoder
from vitjax.models.checks import (
    check_at_least,
    check_choices,
    check_epsilon,
    check_images,
    check_rates,
    check_width,
    lists_to_tuples,
)


class ViT(nn.Module):
    """Image -> patches -> tokens -> encoder -> pooled vector -> logits.

    Attributes:
      image_size, patch_size: in pixels, one number or (height, width); the patch divides the image
        unless `pad` is set.
      pad: where the patch does not divide the image, add zeros around it, in a hybrid around the
        stem's map (see `patchify`).
      in_channels: channels C of the images.
      num_classes: classes K; 0 for a model without head, which returns the pooled vector.
      width: width D of the tokens.
      depth: encoder blocks L.
      num_heads: attention heads h; divides the width.
      mlp_dim: hidden width M of the MLPs; None for 4 * width.
      pooling: 'cls' (the class token), 'mean' (of the patch tokens), 'cls_mean' (both concatenated,
        width 2D, as in DINOv2's classifiers) or 'map' (attention pooling).
      pool_prefix: whether 'mean' and 'map' pool the prefix too (class, distillation and register
        tokens); None means: only 'map' does.
      class_token: whether there is one; None means: only if the pooling needs it.
      distillation: 'token' for a distillation token after the class token (DeiT: Touvron et al. 2021),
        'head' for one with its own head: logits are the mean of those of both heads.
      num_registers: number of register tokens (Darcet et al. 2024).
      patch_bias: whether the patch embedding has a bias.
      positions: 'learned', 'none', or fixed and only for patches: 'sincos2d' and 'sincos2d_mae' (its two
        published variants), 'sinusoidal' (row by row), 'rotary' (in every block's attention, see
        `axial_angles`).
      prefix_positions: which prefix tokens have a learned position too: 'class' (class and
        distillation tokens), 'all' or 'none'.
      norm_embeddings: whether tokens are normalised before the first block, as in CLIP.
      norm_after_pooling: whether the final norm is applied to the pooled vector, not to the tokens.
      representation_size: width of a tanh layer before the head; None for no such layer.
      stem_depths: for a hybrid (section 3.1), which cuts the last map of a ResNet into patches: the
        number of bottleneck blocks in each stage of the ResNet, () for its root only; None for no stem.
        The patch size stays in pixels of the image and is a multiple of the stem's stride: 4 after the
        root and the first stage, doubled by each further stage.
      stem_width: width of that ResNet, which has group norm; see `ResNetBackbone`.
      activation, gated_mlp, norm_epsilon, layer_scale, qkv_bias, qk_norm, dropout, attention_kernel,
        dtype: see `vitjax.layers.block.BlockConfig`.
      drop_path, scan, remat: see `vitjax.layers.transformer.Stack`.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 16
    pad: bool = False
    in_channels: int = 3
    num_classes: int = 1000
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int | None = None
    pooling: Literal['cls', 'mean', 'cls_mean', 'map'] = 'cls'
    pool_prefix: bool | None = None
    class_token: bool | None = None
    distillation: Literal['none', 'token', 'head'] = 'none'
    num_registers: int = 0
    patch_bias: bool = True
    positions: Literal['learned', 'sincos2d', 'sincos2d_mae', 'sinusoidal', 'rotary', 'none'] = (
        'learned'
    )
    prefix_positions: Literal['class', 'all', 'none'] = 'class'
    norm_embeddings: bool = False
    norm_after_pooling: bool = False
    representation_size: int | None = None
    stem_depths: tuple[int, ...] | None = None
    stem_width: int = 64
    activation: Literal['gelu_tanh', 'gelu', 'quick_gelu', 'silu'] = 'gelu_tanh'
    gated_mlp: bool = False
    norm_epsilon: float = 1e-6
    layer_scale: float | None = None
    qkv_bias: bool = True
    qk_norm: bool = False
    attention_kernel: Literal['auto', 'xla', 'cpu', 'cudnn', 'splash'] = 'auto'
    dropout: float = 0.0
    drop_path: float = 0.0
    scan: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        lists_to_tuples(self)
        super().__post_init__()
        grid_size(self.image_size, self.patch_size, pad=self.pad)
        self._patch_of_map()
        check_choices(self, 'pooling', 'distillation', 'positions', 'prefix_positions')
        check_choices(self, 'activation', 'attention_kernel')
        check_at_least(self, 1, 'in_channels', 'width', 'depth', 'num_heads', 'mlp_dim')
        check_at_least(self, 1, 'representation_size', 'stem_depths', 'stem_width')
        check_at_least(self, 0, 'num_classes', 'num_registers')
        check_rates(self, 'dropout', 'drop_path')
        check_epsilon(self)
        check_width(self)
        if self.pooling.startswith('cls') and self.class_token is False:
            raise ValueError(
                f"pooling '{self.pooling}' needs class_token; choose 'mean' or 'map' without one"
            )
        if self.distillation == 'head' and self.norm_after_pooling:
            raise ValueError("distillation 'head' needs normalised tokens: no norm_after_pooling")
        wider = self.representation_size or self.pooling == 'cls_mean'
        if self.distillation == 'head' and not self.num_classes and wider:
            raise ValueError(
                "distillation 'head' without classes is the mean of two tokens: no "
                "representation_size, nor pooling 'cls_mean'"
            )

    def setup(self):
        grid = grid_size(self.image_size, self.patch_size, pad=self.pad)
        token = nn.initializers.normal(0.02)
        if self.stem_depths is not None:
            self.backbone = ResNetBackbone(
                self.stem_depths, width=self.stem_width, norm='group', dtype=self.dtype
            )
        self.patch_embedding = PatchEmbedding(
            self._patch_of_map(),
            self.width,
            pad=self.pad,
            use_bias=self.patch_bias,
            dtype=self.dtype,
        )
        initial = {'class_token': nn.initializers.zeros}
        self.prefix_tokens = [
            self.param(name, initial.get(name, token), (1, count, self.width))
            for name, count in self.prefix.items()
            if count
        ]
        if self.positions == 'learned':
            shape = (1, self.num_placed + grid[0] * grid[1], self.width)
            self.position_table = self.param('positions', token, shape)
        if self.norm_embeddings:
            self.embedding_norm = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype)
        block = BlockConfig(
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim or 4 * self.width,
            activation=self.activation,
            gated_mlp=self.gated_mlp,
            norm_epsilon=self.norm_epsilon,
            layer_scale=self.layer_scale,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            attention_kernel=self.attention_kernel,
            dropout=self.dropout,
            dtype=self.dtype,
        )
        self.encoder = Encoder(self.depth, block, self.drop_path, self.scan, self.remat)
        self.norm = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype)
        if self.pooling == 'map':
            self.attention_pooling = AttentionPooling(block)
        if self.representation_size:
            self.representation = nn.Dense(self.representation_size, dtype=self.dtype)
        if self.num_classes:
            # float32 for every dtype, for softmax and loss.
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)
            if self.distillation == 'head':
                zeros = nn.initializers.zeros
                self.distillation_head = nn.Dense(self.num_classes, kernel_init=zeros)

    @property
    def prefix(self) -> dict[str, int]:
        """The tokens before the patches, in order: name of the parameter -> number of tokens."""
        needed = self.pooling.startswith('cls')
        return {
            'class_token': int(needed if self.class_token is None else self.class_token),
            'distillation_token': int(self.distillation != 'none'),
            'register_tokens': self.num_registers,
        }

    @property
    def before_blocks(self) -> tuple[str, ...]:
        """Submodules and parameters that come before the encoder, see `vitjax.layers.stacks`."""
        optional = {
            'backbone': self.stem_depths is not None,
            'positions': self.positions == 'learned',
            'embedding_norm': self.norm_embeddings,
        }
        present = [name for name, exists in (optional | self.prefix).items() if exists]
        return ('patch_embedding', *present)

    @property
    def num_placed(self) -> int:
        """Number of prefix tokens that have a learned position."""
        of_class = ('class_token', 'distillation_token')
        placed: dict[str, Iterable[str]] = {'class': of_class, 'all': self.prefix, 'none': ()}
        return sum(self.prefix[name] for name in placed[self.prefix_positions])

    @property
    def pools_prefix(self) -> bool:
        """Whether 'mean' or 'map' pools prefix tokens, and there are any."""
        wanted = self.pooling == 'map' if self.pool_prefix is None else self.pool_prefix
        return wanted and self.pooling in ('mean', 'map') and any(self.prefix.values())

    def __call__(
        self, images: Float[Array, 'B H W C'], train: bool = False
    ) -> Float[jax.Array, 'B K']:
        """Normalised images -> logits, float32; without a head (`num_classes=0`) the pooled vector.

        With `train=True` and dropout or drop path, give `rngs={'dropout': key}`.
        """
        tokens, _ = self._encode(images, train)
        x = self._pool(tokens)  # [B, D]
        if self.representation_size:
            x = jnp.tanh(self.representation(x))
        if self.num_classes:
            x = self.head(x)  # [B, K]
        if self.distillation == 'head':
            token = tokens[:, self.prefix['class_token']]  # [B, D]
            x = (x + (self.distillation_head(token) if self.num_classes else token)) / 2
        return x.astype(jnp.float32)

    def features(
        self, images: Float[Array, 'B H W C'], *, attention: bool = False, train: bool = False
    ) -> dict[str, jax.Array | tuple[jax.Array, ...]]:
        """Intermediate results for normalised images.

        Returns:
          tokens [B, N, D] and prefix [B, P, D] (class, distillation, register tokens), after the
          final norm unless `norm_after_pooling`; pooled [B, D]; blocks, a tuple of L arrays
          [B, P + N, D], before the final norm; and, with `attention`, attention [L, B, h, T, T], float32.
        """
        keep = ('blocks', 'attention') if attention else ('blocks',)
        tokens, kept = self._encode(images, train, keep)
        prefix = sum(self.prefix.values())
        features: dict[str, jax.Array | tuple[jax.Array, ...]] = {
            'tokens': tokens[:, prefix:],
            'prefix': tokens[:, :prefix],
            'pooled': self._pool(tokens),
            'blocks': tuple(kept['blocks']),
        }
        return features | ({'attention': kept['attention']} if attention else {})

    def pooling_weights(self, features: Mapping[str, Any]) -> Float[jax.Array, 'B T']:
        """The weight of each token in the pooled vector.

        Args:
          features: as `features` returns them.

        Returns:
          Weights of the P + N tokens, float32, with sum 1. With attention pooling they are the mean over
          its heads, with distillation 'head' the mean of those of both heads.
        """
        tokens = jnp.concatenate([features['prefix'], features['tokens']], axis=1)  # [B, T, D]
        batch, length, _ = tokens.shape
        skipped = 0 if self.pools_prefix else features['prefix'].shape[1]

        def one_hot(index):
            return jnp.zeros((batch, length)).at[:, index].set(1)

        if self.pooling == 'map':
            _, weights = self.attention_pooling(tokens[:, skipped:], return_weights=True)
            weights = jnp.pad(weights.mean(axis=1), ((0, 0), (skipped, 0)))  # [B, h, n] -> [B, T]
        elif self.pooling == 'cls':
            weights = one_hot(0)
        else:
            weights = jnp.zeros((batch, length)).at[:, skipped:].set(1 / (length - skipped))
            if self.pooling == 'cls_mean':
                weights = (one_hot(0) + weights) / 2
        if self.distillation == 'head':
            weights = (weights + one_hot(self.prefix['class_token'])) / 2
        return weights

    def windows(self) -> dict[str, tuple[Window, ...]]:
        """Layer -> windows from the map before (first the image) to its map.

        A block sees all patches. Statistics of group norm in the stem are ignored.
        """
        stem = {} if self.stem_depths is None else resnet_windows(self.stem_depths, 'bottleneck')
        patch = self._patch_of_map()
        blocks = {f'block{index + 1}': (Window(None, (1, 1)),) for index in range(self.depth)}
        return stem | {'patches': (Window(patch, patch),)} | blocks

    def _patch_of_map(self) -> tuple[int, int]:
        """Height and width of a patch in pixels of the image or, with a stem, of its last map."""
        patch = as_pair(self.patch_size)
        stride = 1 if self.stem_depths is None else resnet_stride(self.stem_depths)
        for side, length in zip(('height', 'width'), patch, strict=True):
            if length % stride:
                raise ValueError(
                    f"patch {side} {length} is not a multiple of the stem's stride {stride}; "
                    f'nearest that are: {nearest_multiples(length, stride)}'
                )
        return patch[0] // stride, patch[1] // stride

    def encode_visible(
        self,
        images: Float[Array, 'B H W C'],
        visible: Int[Array, 'B n'],
        train: bool = False,
    ) -> Float[jax.Array, 'B T D']:
        """Encodes only some patches of each image (He et al. 2022, section 3).

        Args:
          images: normalised images.
          visible: indices of the patches, in any order.
          train: as in `__call__`.

        Returns:
          P + n tokens, the patches in the order of `visible`.

        Raises:
          ValueError: positions are 'rotary'.
        """
        if self.positions == 'rotary':
            raise ValueError('rotary positions need all patches of the grid')
        return self._encode(images, train, visible=visible)[0]

    def _encode(
        self,
        images: Array,
        train: bool,
        keep: tuple[str, ...] = (),
        visible: Array | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns tokens [B, P + N, D] after the final norm, and the intermediates named in `keep`."""
        check_images(self, images)
        grid = grid_size(self.image_size, self.patch_size, pad=self.pad)
        if self.stem_depths is not None:
            images = self.backbone(images)[-1]  # [B, H / stride, W / stride, C']
        x = self.patch_embedding(images)  # [B, N, D]
        prefix = jnp.zeros((1, 0, self.width))
        if self.prefix_tokens:
            prefix = jnp.concatenate(self.prefix_tokens, axis=1)  # [1, P, D]
        if self.positions == 'learned':
            of_prefix, of_patches = jnp.split(self.position_table, [self.num_placed], axis=1)
            x = x + of_patches.astype(x.dtype)
            without = prefix.shape[1] - self.num_placed
            prefix = prefix + jnp.pad(of_prefix, ((0, 0), (0, without), (0, 0)))
        elif self.positions in FIXED:
            x = x + FIXED[self.positions](grid, self.width).astype(x.dtype)
        if visible is not None:
            x = jnp.take_along_axis(x, visible[..., None], axis=1)  # [B, n, D]
        prefix = jnp.broadcast_to(prefix.astype(x.dtype), (x.shape[0], *prefix.shape[1:]))
        x = jnp.concatenate([prefix, x], axis=1)  # [B, P + N, D]
        if self.norm_embeddings:
            x = self.embedding_norm(x)
        angles = None
        if self.positions == 'rotary':
            angles = axial_angles(grid, self.width // self.num_heads)  # [N, d / 2]
            # Prefix tokens have no position: angle 0.
            angles = jnp.pad(angles, ((x.shape[1] - len(angles), 0), (0, 0)))  # [P + N, d / 2]
        x, kept = self.encoder(x, angles=angles, train=train, keep=keep)
        return x if self.norm_after_pooling else self.norm(x), kept

    def _pool(self, tokens: Float[Array, 'B T D']) -> Float[jax.Array, 'B _']:
        """All P + N tokens -> pooled vector [B, D], or [B, 2D] with 'cls_mean'."""
        pooled = tokens if self.pools_prefix else tokens[:, sum(self.prefix.values()) :]
        if self.pooling == 'map':
            x = self.attention_pooling(pooled)
        elif self.pooling == 'mean':
            x = pooled.mean(axis=1)
        else:
            x = tokens[:, 0]
            if self.pooling == 'cls_mean':
                x = jnp.concatenate([x, pooled.mean(axis=1)], axis=-1)
        return self.norm(x) if self.norm_after_pooling else x
