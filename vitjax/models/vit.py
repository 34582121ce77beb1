"""The Vision Transformer (Dosovitskiy et al. 2021), of any image and patch size."""

import typing
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.errors import unknown
from vitjax.layers.patches import PatchEmbedding, as_pair, grid_size
from vitjax.layers.pooling import AttentionPooling
from vitjax.layers.positions import sincos2d
from vitjax.layers.transformer import Encoder


class ViT(nn.Module):
    """Image -> patches -> tokens -> encoder -> pooled vector -> logits.

    Attributes:
      image_size, patch_size: in pixels, one number or (height, width); the patch divides the image.
      in_channels: channels C of the images.
      num_classes: classes K; 0 for a model without head, which returns the pooled vector.
      width: width D of the tokens.
      depth: encoder blocks L.
      num_heads: attention heads h; divides the width.
      mlp_dim: hidden width M of the MLPs; None for 4 * width.
      pooling: 'cls' (the class token), 'mean' (of the patch tokens) or 'map' (attention pooling).
      class_token: whether there is one; None for just where the pooling is 'cls'.
      num_registers: extra tokens that belong to no patch (Darcet et al. 2024).
      positions: 'learned' (class token included), 'sincos2d' (patches only) or 'none'.
      representation_size: width of a tanh layer before the head; None for none.
      activation, gated_mlp, norm_epsilon, layer_scale, qkv_bias, qk_norm, dropout, drop_path,
        scan, remat, dtype: see `vitjax.layers.transformer.Encoder`.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 16
    in_channels: int = 3
    num_classes: int = 1000
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int | None = None
    pooling: Literal['cls', 'mean', 'map'] = 'cls'
    class_token: bool | None = None
    num_registers: int = 0
    positions: Literal['learned', 'sincos2d', 'none'] = 'learned'
    representation_size: int | None = None
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
        super().__post_init__()
        grid_size(self.image_size, self.patch_size)
        for name in ('pooling', 'positions', 'activation'):
            known = typing.get_args(type(self).__annotations__[name])
            if getattr(self, name) not in known:
                raise unknown(name, str(getattr(self, name)), known)
        for name in (
            'in_channels',
            'width',
            'depth',
            'num_heads',
            'mlp_dim',
            'representation_size',
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, not {getattr(self, name)}')
        for name in ('num_classes', 'num_registers'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} must be at least 0, not {getattr(self, name)}')
        for name in ('dropout', 'drop_path'):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f'{name} must be in [0, 1), not {getattr(self, name)}')
        if self.norm_epsilon <= 0:
            raise ValueError(f'norm_epsilon must be above 0, not {self.norm_epsilon}')
        if self.width % self.num_heads:
            near = [n for n in range(1, self.width + 1) if self.width % n == 0]
            near = sorted(near, key=lambda n: abs(n - self.num_heads))[:3]
            raise ValueError(
                f'num_heads {self.num_heads} does not divide width {self.width}; '
                f'nearest that do: {", ".join(map(str, sorted(near)))}'
            )
        if self.positions == 'sincos2d' and self.width % 4:
            raise ValueError(f"positions 'sincos2d' need a width that 4 divides, not {self.width}")
        if self.pooling == 'cls' and self.class_token is False:
            raise ValueError("pooling 'cls' needs class_token; choose 'mean' or 'map' without one")

    def setup(self):
        grid = grid_size(self.image_size, self.patch_size)
        token = nn.initializers.normal(0.02)
        mlp_dim = self.mlp_dim or 4 * self.width
        self.patch_embedding = PatchEmbedding(
            as_pair(self.patch_size), self.width, dtype=self.dtype
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

    def _encode(self, images: jax.Array, train: bool, keep: tuple[str, ...] = ()):
        """images [B, H, W, C] -> tokens [B, P + N, D] after the final norm, and what `keep` names."""
        expected = (*as_pair(self.image_size), self.in_channels)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(
                f'this model takes images [batch, {", ".join(map(str, expected))}], '
                f'not {list(images.shape)}; build it with other image_size or in_channels'
            )
        x = self.patch_embedding(images)  # [B, N, D]
        prefix = [self.cls_token] if self.num_class_tokens else []
        if self.positions == 'learned':
            of_class, of_patches = jnp.split(self.position_table, [self.num_class_tokens], axis=1)
            x = x + of_patches.astype(x.dtype)
            prefix = [token + of_class for token in prefix]
        elif self.positions == 'sincos2d':
            grid = grid_size(self.image_size, self.patch_size)
            x = x + sincos2d(grid, self.width).astype(x.dtype)
        if self.num_registers:
            prefix.append(self.register_tokens)
        if prefix:
            tokens = jnp.concatenate(prefix, axis=1).astype(x.dtype)  # [1, P, D]
            tokens = jnp.broadcast_to(tokens, (x.shape[0], *tokens.shape[1:]))
            x = jnp.concatenate([tokens, x], axis=1)  # [B, P + N, D]
        x, kept = self.encoder(x, train=train, keep=keep)
        return self.norm(x), kept

    def _pool(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, P + N, D] after the final norm -> [B, D]."""
        if self.pooling == 'cls':
            return tokens[:, 0]
        if self.pooling == 'map':
            return self.attention_pooling(tokens)
        return tokens[:, self.num_class_tokens + self.num_registers :].mean(axis=1)
