"""The masked autoencoder (He et al. 2022): a Vision Transformer that learns without labels."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Int

from vitjax.layers.arrays import Array
from vitjax.layers.block import BlockConfig
from vitjax.layers.convolution import Window
from vitjax.layers.patches import as_pair, grid_size, patchify
from vitjax.layers.positions import sincos2d
from vitjax.layers.transformer import Encoder
from vitjax.models.checks import check_at_least, lists_to_tuples
from vitjax.models.vit import ViT


class MAE(nn.Module):
    """Hides most patches of an image, encodes the others, and decodes them all.

    The encoder is a `ViT` without head, whose parameters lie under `vit`; it never sees a hidden patch.
    A small decoder gets the encoded tokens, the same learned mask token in place of each hidden patch, and
    the positions of all patches, and predicts the pixels.

    Attributes:
      image_size, patch_size, in_channels: as in `ViT`.
      width, depth, num_heads, mlp_dim: of the encoder.
      decoder_width, decoder_depth, decoder_num_heads: of the decoder, whose MLPs are four times
        as wide.
      mask_ratio: share of the patches that are hidden; int(N * (1 - mask_ratio)) of N stay visible.
      norm_pixels: whether the targets are patches normalised by their own mean and deviation.
      activation, norm_epsilon, drop_path (of the encoder), scan, remat, dtype: as in `ViT`.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 16
    in_channels: int = 3
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int | None = None
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    mask_ratio: float = 0.75
    norm_pixels: bool = True
    activation: Literal['gelu_tanh', 'gelu', 'quick_gelu', 'silu'] = 'gelu'
    norm_epsilon: float = 1e-6
    drop_path: float = 0.0
    scan: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        lists_to_tuples(self)
        super().__post_init__()
        self.encoder()  # checks the encoder's arguments
        check_at_least(self, 1, 'decoder_width', 'decoder_depth', 'decoder_num_heads')
        if self.decoder_width % 4 or self.decoder_width % self.decoder_num_heads:
            raise ValueError(
                f'decoder_width must be a multiple of 4 and of decoder_num_heads '
                f'({self.decoder_num_heads}), not {self.decoder_width}'
            )
        rows, columns = grid_size(self.image_size, self.patch_size)
        if not 0 < self.mask_ratio < 1 or not self.num_visible:
            raise ValueError(
                f'mask_ratio must leave some of the {rows * columns} patches hidden and some visible, '
                f'which {self.mask_ratio} does not'
            )
        height, width = as_pair(self.patch_size)
        if self.norm_pixels and height * width * self.in_channels < 2:
            raise ValueError('norm_pixels needs patches of more than one value')

    def encoder(self) -> ViT:
        """The encoder, whose parameters are under `vit`."""
        return ViT(
            image_size=self.image_size,
            patch_size=self.patch_size,
            in_channels=self.in_channels,
            num_classes=0,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim,
            positions='sincos2d_mae',
            activation=self.activation,
            norm_epsilon=self.norm_epsilon,
            drop_path=self.drop_path,
            scan=self.scan,
            remat=self.remat,
            dtype=self.dtype,
            parent=None,  # not bound here; `setup` makes it a submodule
        )

    @property
    def num_visible(self) -> int:
        """Number n of patches that the encoder sees."""
        rows, columns = grid_size(self.image_size, self.patch_size)
        return int(rows * columns * (1 - self.mask_ratio))

    def setup(self):
        self.vit = self.encoder()
        self.decoder_embedding = nn.Dense(
            self.decoder_width, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype
        )
        token = nn.initializers.normal(0.02)
        self.mask_token = self.param('mask_token', token, (1, 1, self.decoder_width))
        block = BlockConfig(
            num_heads=self.decoder_num_heads,
            mlp_dim=4 * self.decoder_width,
            activation=self.activation,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
        )
        self.decoder = Encoder(self.decoder_depth, block, scan=self.scan, remat=self.remat)
        self.decoder_norm = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype)
        height, width = as_pair(self.patch_size)
        # float32 for every dtype, for the loss.
        self.decoder_head = nn.Dense(
            height * width * self.in_channels, kernel_init=nn.initializers.xavier_uniform()
        )

    def __call__(
        self, images: Float[Array, 'B H W C'], train: bool = False
    ) -> dict[str, Float[jax.Array, 'B N Ph Pw C'] | Bool[jax.Array, 'B N']]:
        """Normalised images -> predicted patches, of which the encoder saw some.

        With `rngs={'masking': key}` random patches are hidden. Without a key the choice is a function
        of the image, so that evaluations are reproducible. With `train=True` and drop path, give
        `rngs={'dropout': key}`.

        Returns:
          prediction [B, N, Ph, Pw, C], float32, comparable to `target(images)`; hidden [B, N], bool.
        """
        grid = grid_size(self.image_size, self.patch_size)
        order = self._shuffled(images)  # [B, N]
        tokens = self.vit.encode_visible(images, order[:, : self.num_visible], train)

        tokens = self.decoder_embedding(tokens)  # [B, 1 + n, Dd]
        missing = order.shape[1] - self.num_visible
        masks = jnp.broadcast_to(
            self.mask_token.astype(tokens.dtype), (tokens.shape[0], missing, self.decoder_width)
        )
        x = jnp.concatenate([tokens[:, 1:], masks], axis=1)  # [B, N, Dd], in the order of `order`
        place = jnp.argsort(order, axis=1)  # [B, N]
        x = jnp.take_along_axis(x, place[..., None], axis=1)
        x = x + sincos2d(grid, self.decoder_width, variant='mae').astype(x.dtype)
        x = jnp.concatenate([tokens[:, :1], x], axis=1)  # [B, 1 + N, Dd]
        x, _ = self.decoder(x)
        x = self.decoder_head(self.decoder_norm(x[:, 1:]))  # [B, N, Ph * Pw * C]
        return {
            'prediction': x.reshape(
                *x.shape[:2], *as_pair(self.patch_size), self.in_channels
            ).astype(jnp.float32),
            'hidden': place >= self.num_visible,
        }

    def features(
        self, images: Float[Array, 'B H W C'], *, attention: bool = False, train: bool = False
    ) -> dict[str, jax.Array | tuple[jax.Array, ...]]:
        """`ViT.features` of the encoder, for images without hidden patches."""
        return self.vit.features(images, attention=attention, train=train)

    def pooling_weights(self, features: Mapping[str, Any]) -> Float[jax.Array, 'B T']:
        """`ViT.pooling_weights` of the encoder."""
        return self.vit.pooling_weights(features)

    def target(self, images: Float[Array, 'B H W C']) -> Float[Array, 'B N Ph Pw C']:
        """The patches to predict, normalised with `norm_pixels`."""
        patches = patchify(images, self.patch_size)
        if not self.norm_pixels:
            return patches
        mean, deviation = patch_statistics(patches)
        return (patches - mean) / deviation

    def predicted_pixels(
        self, prediction: Float[Array, 'B N Ph Pw C'], images: Float[Array, 'B H W C']
    ) -> Float[Array, 'B N Ph Pw C']:
        """The pixels of predicted patches: the inverse of `target`.

        With `norm_pixels` each gets the mean and deviation of its patch in the images, hidden or visible,
        as in the figures of He et al. 2022.
        """
        if not self.norm_pixels:
            return prediction
        mean, deviation = patch_statistics(patchify(images, self.patch_size))
        return prediction * deviation + mean

    def windows(self) -> dict[str, tuple[Window, ...]]:
        """`ViT.windows` of the encoder."""
        return self.encoder().windows()

    def _shuffled(self, images: Float[Array, 'B H W C']) -> Int[jax.Array, 'B N']:
        """A permutation of the patches for each image; its first n are visible."""
        rows, columns = grid_size(self.image_size, self.patch_size)
        if self.has_rng('masking'):
            keys = jax.random.split(self.make_rng('masking'), images.shape[0])
        else:
            # Independent of the place in the batch, which depends on the batch size.
            bits = jax.lax.bitcast_convert_type(images.astype(jnp.float32), jnp.uint32)
            digests = bits.sum(axis=(1, 2, 3), dtype=jnp.uint32)  # [B]
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), digests)
        noise = jax.vmap(lambda key: jax.random.uniform(key, (rows * columns,)))(keys)  # [B, N]
        return jnp.argsort(noise, axis=1)


def patch_statistics(
    patches: Float[Array, 'B N Ph Pw C'],
) -> tuple[Float[Array, 'B N 1 1 1'], Float[Array, 'B N 1 1 1']]:
    """Mean and standard deviation of the values of each patch.

    The variance is the unbiased one, plus 1e-6, as in facebookresearch/mae.
    """
    axes = (2, 3, 4)
    variance = patches.var(axis=axes, ddof=1, keepdims=True)
    return patches.mean(axis=axes, keepdims=True), jnp.sqrt(variance + 1e-6)
