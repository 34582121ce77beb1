"""The Vision Transformer (Dosovitskiy et al. 2021), of any image and patch size."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.convolution import ResNetBackbone, Window, resnet_stride, resnet_windows
from vitjax.layers.patches import PatchEmbedding, as_pair, grid_size, nearest_multiples
from vitjax.layers.pooling import AttentionPooling
from vitjax.layers.positions import axial_angles, sincos2d, sinusoidal
from vitjax.layers.transformer import Encoder
from vitjax.models.checks import (
    check_at_least,
    check_choices,
    check_images,
    check_rates,
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
      pooling: 'cls' (the class token), 'mean' (of the patch tokens) or 'map' (attention pooling).
      class_token: whether there is one; None for just where the pooling is 'cls'.
      num_registers: extra tokens that belong to no patch (Darcet et al. 2024).
      positions: 'learned' (class token included); of the patches only, and fixed, 'sincos2d',
        'sincos2d_mae' (its two published variants), 'sinusoidal' (row by row), 'rotary' (in every
        block's attention, see `axial_angles`); or 'none'.
      representation_size: width of a tanh layer before the head; None for none.
      stem_depths: the patches are not of the image but of a ResNet's last map, as in the hybrids of
        section 3.1: the bottleneck blocks in each of its stages, () for its root only; None for no
        stem. The patch size stays in pixels of the image; the stem's stride, 4 after the root and
        the first stage and twice that after each further one, divides it.
      stem_width: of that ResNet, which has group norm; see `ResNetBackbone`.
      activation, gated_mlp, norm_epsilon, layer_scale, qkv_bias, qk_norm, dropout, drop_path,
        scan, remat, dtype: see `vitjax.layers.transformer.Encoder`.
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
    pooling: Literal['cls', 'mean', 'map'] = 'cls'
    class_token: bool | None = None
    num_registers: int = 0
    positions: Literal['learned', 'sincos2d', 'sincos2d_mae', 'sinusoidal', 'rotary', 'none'] = (
        'learned'
    )
    representation_size: int | None = None
    stem_depths: tuple[int, ...] | None = None
    stem_width: int = 64
    activation: Literal['gelu_tanh', 'gelu', 'quick_gelu', 'silu'] = 'gelu_tanh'
    gated_mlp: bool = False
    norm_epsilon: float = 1e-6
    layer_scale: float | None = None
    qkv_bias: bool = True
    qk_norm: bool = False
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
        check_choices(self, 'pooling', 'positions', 'activation')
        check_at_least(self, 1, 'in_channels', 'width', 'depth', 'num_heads', 'mlp_dim')
        check_at_least(self, 1, 'representation_size', 'stem_depths', 'stem_width')
        check_at_least(self, 0, 'num_classes', 'num_registers')
        check_rates(self, 'dropout', 'drop_path')
        if self.norm_epsilon <= 0:
            raise ValueError(f'norm_epsilon must be above 0, not {self.norm_epsilon}')
        if self.width % self.num_heads:
            near = [n for n in range(1, self.width + 1) if self.width % n == 0]
            near = sorted(near, key=lambda n: abs(n - self.num_heads))[:3]
            raise ValueError(
                f'num_heads {self.num_heads} does not divide width {self.width}; '
                f'nearest that do: {", ".join(map(str, sorted(near)))}'
            )
        what, width = 'a width', self.width
        if self.positions == 'rotary':
            what, width = 'heads of a width', self.width // self.num_heads
        divisor = {'sinusoidal': 2, 'sincos2d': 4, 'sincos2d_mae': 4, 'rotary': 4}
        if width % divisor.get(self.positions, 1):
            raise ValueError(
                f"positions '{self.positions}' need {what} that {divisor[self.positions]} divides, "
                f'not {width}'
            )
        if self.pooling == 'cls' and self.class_token is False:
            raise ValueError("pooling 'cls' needs class_token; choose 'mean' or 'map' without one")

    def setup(self):
        grid = grid_size(self.image_size, self.patch_size, pad=self.pad)
        token = nn.initializers.normal(0.02)
        mlp_dim = self.mlp_dim or 4 * self.width
        if self.stem_depths is not None:
            self.backbone = ResNetBackbone(
                self.stem_depths, width=self.stem_width, norm='group', dtype=self.dtype
            )
        self.patch_embedding = PatchEmbedding(
            self._patch_of_map(), self.width, pad=self.pad, dtype=self.dtype
        )
        self.num_class_tokens = int(
            self.pooling == 'cls' if self.class_token is None else self.class_token
        )
        if self.num_class_tokens:
            self.cls_token = self.param('class_token', nn.initializers.zeros, (1, 1, self.width))
        if self.num_registers:
            shape = (1, self.num_registers, self.width)
            self.register_tokens = self.param('register_tokens', token, shape)
        if self.positions == 'learned':
            shape = (1, self.num_class_tokens + grid[0] * grid[1], self.width)
            self.position_table = self.param('positions', token, shape)
        self.encoder = Encoder(
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_dim=mlp_dim,
            activation=self.activation,
            gated_mlp=self.gated_mlp,
            norm_epsilon=self.norm_epsilon,
            layer_scale=self.layer_scale,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            dropout=self.dropout,
            drop_path=self.drop_path,
            scan=self.scan,
            remat=self.remat,
            dtype=self.dtype,
        )
        self.norm = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype)
        if self.pooling == 'map':
            self.attention_pooling = AttentionPooling(
                self.num_heads,
                mlp_dim,
                activation=self.activation,
                norm_epsilon=self.norm_epsilon,
                dtype=self.dtype,
            )
        if self.representation_size:
            self.representation = nn.Dense(self.representation_size, dtype=self.dtype)
        if self.num_classes:
            # float32 whatever the dtype: softmax and loss are taken of it.
            self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Normalised images [B, H, W, C] -> logits [B, K], float32 (pooled [B, D] without a head).

        With `train=True` and dropout or drop path, give `rngs={'dropout': key}`.
        """
        tokens, _ = self._encode(images, train)
        x = self._pool(tokens)  # [B, D]
        if self.representation_size:
            x = jnp.tanh(self.representation(x))
        if self.num_classes:
            x = self.head(x)  # [B, K]
        return x.astype(jnp.float32)

    def features(
        self, images: jax.Array, *, attention: bool = False, train: bool = False
    ) -> dict[str, jax.Array | tuple[jax.Array, ...]]:
        """What the model sees in images [B, H, W, C].

        Returns:
          tokens [B, N, D] and prefix [B, P, D] (class token, then registers), after the final norm;
          pooled [B, D]; blocks, a tuple of L arrays [B, P + N, D], before the final norm; and, if
          asked for, attention [L, B, h, T, T], float32.
        """
        keep = ('blocks', 'attention') if attention else ('blocks',)
        tokens, kept = self._encode(images, train, keep)
        prefix = self.num_class_tokens + self.num_registers
        features = {
            'tokens': tokens[:, prefix:],
            'prefix': tokens[:, :prefix],
            'pooled': self._pool(tokens),
            'blocks': tuple(kept['blocks']),
        }
        return features | ({'attention': kept['attention']} if attention else {})

    def windows(self) -> dict[str, tuple[Window, ...]]:
        """Layer -> windows that lead to its map from the map before, the image first.

        A block sees all patches. Group norm's statistics in the stem are left out.
        """
        stem = {} if self.stem_depths is None else resnet_windows(self.stem_depths, 'bottleneck')
        patch = self._patch_of_map()
        blocks = {f'block{index + 1}': (Window(None, (1, 1)),) for index in range(self.depth)}
        return stem | {'patches': (Window(patch, patch),)} | blocks

    def _patch_of_map(self) -> tuple[int, int]:
        """Height and width of a patch on the map that is cut: the image, or the stem's last map."""
        patch = as_pair(self.patch_size)
        stride = 1 if self.stem_depths is None else resnet_stride(self.stem_depths)
        for side, length in zip(('height', 'width'), patch, strict=True):
            if length % stride:
                raise ValueError(
                    f"patch {side} {length} is no multiple of the stem's stride {stride}; "
                    f'nearest that are: {nearest_multiples(length, stride)}'
                )
        return patch[0] // stride, patch[1] // stride

    def encode_visible(
        self, images: jax.Array, visible: jax.Array, train: bool = False
    ) -> jax.Array:
        """Encodes some patches of each image as if there were no others (He et al. 2022, section 3).

        Args:
          images: [B, H, W, C].
          visible: [B, n] int, which patches, in any order.
          train: as in `__call__`.

        Returns:
          Tokens [B, P + n, D], the patches in the order of `visible`.
        """
        if self.positions == 'rotary':
            raise ValueError('rotary positions know of whole grids only')
        return self._encode(images, train, visible=visible)[0]

    def _encode(
        self,
        images: jax.Array,
        train: bool,
        keep: tuple[str, ...] = (),
        visible: jax.Array | None = None,
    ):
        """images [B, H, W, C] -> tokens [B, P + N, D] after the final norm, and what `keep` names."""
        check_images(self, images)
        grid = grid_size(self.image_size, self.patch_size, pad=self.pad)
        if self.stem_depths is not None:
            images = self.backbone(images)[-1]  # [B, H / stride, W / stride, C']
        x = self.patch_embedding(images)  # [B, N, D]
        prefix = [self.cls_token] if self.num_class_tokens else []
        if self.positions == 'learned':
            of_class, of_patches = jnp.split(self.position_table, [self.num_class_tokens], axis=1)
            x = x + of_patches.astype(x.dtype)
            prefix = [token + of_class for token in prefix]
        elif self.positions == 'sincos2d':
            x = x + sincos2d(grid, self.width).astype(x.dtype)
        elif self.positions == 'sincos2d_mae':
            x = x + sincos2d(grid, self.width, variant='mae').astype(x.dtype)
        elif self.positions == 'sinusoidal':
            x = x + sinusoidal(x.shape[1], self.width).astype(x.dtype)
        if visible is not None:
            x = jnp.take_along_axis(x, visible[..., None], axis=1)  # [B, n, D]
        if self.num_registers:
            prefix.append(self.register_tokens)
        if prefix:
            tokens = jnp.concatenate(prefix, axis=1).astype(x.dtype)  # [1, P, D]
            tokens = jnp.broadcast_to(tokens, (x.shape[0], *tokens.shape[1:]))
            x = jnp.concatenate([tokens, x], axis=1)  # [B, P + N, D]
        angles = None
        if self.positions == 'rotary':
            angles = axial_angles(grid, self.width // self.num_heads)  # [N, d / 2]
            # What stands before the patches has no place, and does not turn.
            angles = jnp.pad(angles, ((x.shape[1] - len(angles), 0), (0, 0)))  # [P + N, d / 2]
        x, kept = self.encoder(x, angles=angles, train=train, keep=keep)
        return self.norm(x), kept

    def _pool(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, P + N, D] after the final norm -> [B, D]."""
        if self.pooling == 'cls':
            return tokens[:, 0]
        if self.pooling == 'map':
            return self.attention_pooling(tokens)
        return tokens[:, self.num_class_tokens + self.num_registers :].mean(axis=1)
