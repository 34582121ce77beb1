"""The Transformer: a block, and stacks of blocks: encoder and decoder."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Num

from vitjax.layers.arrays import Array
from vitjax.layers.attention import MultiHeadAttention
from vitjax.layers.block import BlockConfig
from vitjax.layers.cache import Cache
from vitjax.layers.choices import check_choice
from vitjax.layers.mlp import MLP


class Block(nn.Module):
    """Self-attention, in a decoder cross-attention to a context, then MLP; each is added to its input.

    Attributes:
      config: its hyperparameters.
      cross_attention: whether it attends to a context, as in a decoder.
      deterministic: False in training with dropout or drop path, else True.
      keep: intermediates to return beside the tokens: any of 'blocks', 'attention', 'cross_attention'.
    """

    config: BlockConfig
    cross_attention: bool = False
    deterministic: bool = True
    keep: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self,
        carry: tuple[Float[Array, 'B T D'], Cache | None],
        layer: dict[str, Num[Array, '']],
        mask: Bool[Array, '...'] | None = None,
        angles: Float[Array, '... T half'] | None = None,
        context: Float[Array, 'B S D'] | None = None,
        context_mask: Bool[Array, '...'] | None = None,
    ) -> tuple[tuple[Float[jax.Array, 'B T D'], Cache | None], dict[str, Float[jax.Array, '...']]]:
        """One layer of a stack.

        Args:
          carry: tokens and, in cached decoding, the cache.
          layer: 'index' and 'drop_path' rate of this layer, scalars.
          mask, angles: of self-attention, see `MultiHeadAttention`.
          context, context_mask: of cross-attention; the mask is broadcastable to [B, h, T, S]. With a
            cache no context is needed.

        Returns:
          The carry for the next layer, and a dict with the intermediates named in `keep`.
        """
        config, cache = self.config, carry[1]
        x = jnp.asarray(carry[0])
        kept = {}

        def update_cache(key, value):
            nonlocal cache
            cache = cache.write(layer['index'], key, value)
            return cache.keys[layer['index']], cache.values[layer['index']]

        def attend(name, y, context=None, **options):
            attention = MultiHeadAttention(
                config.num_heads,
                qkv_bias=config.qkv_bias,
                qk_norm=config.qk_norm,
                norm_epsilon=config.norm_epsilon,
                kernel=config.attention_kernel,
                dtype=config.dtype,
                name=name,
            )
            y, kept[name] = attention(y, context, return_weights=name in self.keep, **options)
            return y

        def self_attention(y):
            update = None if cache is None else update_cache
            return attend('attention', y, mask=mask, angles=angles, update_cache=update)

        def cross_attention(y):
            stored = None
            if cache is not None:
                stored = cache.context_keys[layer['index']], cache.context_values[layer['index']]
            return attend('cross_attention', y, context, mask=context_mask, keys_values=stored)

        mlp = MLP(
            config.mlp_dim,
            activation=config.activation,
            gated=config.gated_mlp,
            dropout=config.dropout,
            deterministic=self.deterministic,
            dtype=config.dtype,
            name='mlp',
        )
        x = self._add('attention', x, self_attention, layer['drop_path'])
        if self.cross_attention:
            x = self._add('cross_attention', x, cross_attention, layer['drop_path'])
        x = self._add('mlp', x, mlp, layer['drop_path'])

        # One constraint per block keeps activations sharded along the batch under FSDP.
        x = nn.with_logical_constraint(x, ('batch', 'length', None))  # [B, T, D]
        kept['blocks'] = x
        return (x, cache), {name: kept[name] for name in self.keep}

    def _add(
        self,
        name: str,
        x: Float[jax.Array, 'B T D'],
        branch: Callable[[jax.Array], jax.Array],
        drop_path: Float[Array, ''],
    ) -> Float[jax.Array, 'B T D']:
        """The residual connection: x + branch(norm(x)) with 'pre', norm(x + branch(x)) with 'post'."""
        config = self.config
        norm = nn.LayerNorm(config.norm_epsilon, dtype=config.dtype, name=f'{name}_norm')
        if config.norm_position == 'post':
            return norm(x + self._regularised(branch(x), f'{name}_scale', drop_path))
        return x + self._regularised(branch(norm(x)), f'{name}_scale', drop_path)

    def _regularised(self, y: jax.Array, scale: str, drop_path: Array) -> jax.Array:
        """Applies dropout, LayerScale and drop path to the output of a branch."""
        y = nn.Dropout(self.config.dropout, deterministic=self.deterministic)(y)
        if self.config.layer_scale is not None:
            initial = nn.initializers.constant(self.config.layer_scale)
            y = y * self.param(scale, initial, (y.shape[-1],)).astype(y.dtype)
        if self.deterministic:
            return y
        # Stochastic depth, per example (Huang et al. 2016).
        shape = (y.shape[0], *(1,) * (y.ndim - 1))
        kept = jax.random.bernoulli(self.make_rng('dropout'), 1 - drop_path, shape)
        return jnp.where(kept, y / (1 - drop_path).astype(y.dtype), 0)


class Stack(nn.Module):
    """A stack of blocks, without embedding and, with 'pre', without the norm after the last block.

    Parameters are stored stacked, under `blocks`, with a leading axis of `depth` layers. `scan` and
    `remat` change neither parameters nor results; they trade speed for compile time and memory.

    Attributes:
      depth: blocks L.
      config: hyperparameters of each block.
      drop_path: rate of the last block; rates rise linearly from 0 at the first.
      scan: compile one block and loop over the layers, instead of compiling every layer.
      remat: recompute a block's activations in the backward pass instead of storing them.
      stacked: names of the submodules whose parameters have a leading axis of layers, see
        `vitjax.layers.stacks`.
    """

    depth: int
    config: BlockConfig
    drop_path: float = 0.0
    scan: bool = False
    remat: bool = False

    stacked: ClassVar[tuple[str, ...]] = ('blocks',)

    def _blocks(self, *, train: bool, keep: tuple[str, ...], cross_attention: bool, scan: bool):
        """The stack as one module with the arguments of `Block`; those in `layer` have an axis of layers."""
        check_choice('norm_position', self.config.norm_position, ('pre', 'post'))
        # Under `scan` the loop keeps XLA from merging the recomputation; unrolled, only a barrier does.
        block = nn.remat(Block, prevent_cse=not scan) if self.remat else Block
        stack = nn.scan(
            block,
            variable_axes={'params': 0},
            split_rngs={'params': True, 'dropout': True},
            in_axes=(0, *(nn.broadcast,) * 4),
            length=self.depth,
            unroll=1 if scan else self.depth,
        )
        return stack(
            self.config,
            cross_attention=cross_attention,
            deterministic=not train or not (self.config.dropout or self.drop_path),
            keep=keep,
            name='blocks',
        )

    def _layers(self) -> dict[str, jax.Array]:
        """Arguments that differ from layer to layer, [L] each."""
        rates = jnp.linspace(0.0, self.drop_path, self.depth)
        return {'index': jnp.arange(self.depth), 'drop_path': rates}


class Encoder(Stack):
    """Blocks of self-attention between all tokens that the mask leaves visible."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, 'B T D'],
        *,
        mask: Bool[Array, '...'] | None = None,
        angles: Float[Array, '... T half'] | None = None,
        train: bool = False,
        keep: tuple[str, ...] = (),
    ) -> tuple[Float[jax.Array, 'B T D'], dict[str, Float[jax.Array, 'L B ...']]]:
        """Tokens -> tokens, and the intermediates named in `keep`.

        `keep` may contain 'blocks' ([L, B, T, D], the tokens after each block) and 'attention'
        ([L, B, h, T, T]). The mask is broadcastable to [B, h, T, T]. Rotary `angles` [T, d / 2] rotate
        the queries and keys of every block (see `vitjax.layers.positions`).
        """
        blocks = self._blocks(train=train, keep=keep, cross_attention=False, scan=self.scan)
        (tokens, _), kept = blocks((x, None), self._layers(), mask, angles, None, None)
        return tokens, kept


class Decoder(Stack):
    """Blocks that also attend to a context, such as the encoded source of a translation."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, 'B T D'],
        context: Float[Array, 'B S D'] | None = None,
        *,
        mask: Bool[Array, '...'] | None = None,
        context_mask: Bool[Array, '...'] | None = None,
        angles: Float[Array, '... T half'] | None = None,
        cache: Cache | None = None,
        train: bool = False,
        keep: tuple[str, ...] = (),
    ) -> tuple[Float[jax.Array, 'B T D'], Cache | None, dict[str, Float[jax.Array, 'L B ...']]]:
        """Tokens -> tokens, the updated cache, and the intermediates named in `keep`.

        As `Encoder`, and: `context_mask` is broadcastable to [B, h, T, S], and `keep` may contain
        'cross_attention' ([L, B, h, T, S]). With a cache from `init_cache`, which replaces the context,
        x are the next tokens: self-attention sees the earlier ones through the cache, and the mask is
        broadcastable to [B, h, T, cache.max_length].
        """
        # In cached decoding layers are unrolled: a loop would copy each layer's weights out of the stack.
        scan = self.scan and cache is None
        blocks = self._blocks(train=train, keep=keep, cross_attention=True, scan=scan)
        arguments = (mask, angles, context, context_mask)
        (tokens, cache), kept = blocks((x, cache), self._layers(), *arguments)
        if cache is not None:
            cache = cache.replace(index=cache.index + x.shape[1])
        return tokens, cache, kept

    def init_cache(
        self, context: Float[Array, 'B S D'], context_mask: Bool[Array, 'B S'], max_length: int
    ) -> Cache:
        """Returns an empty cache for `max_length` tokens, with the keys and values of a context."""
        config = self.config
        attention = self.variables['params']['blocks']['cross_attention']

        def projected(name):
            # One matrix product for all layers, since their weights are stacked.
            kernel = attention[name]['kernel'].astype(config.dtype)  # [L, D, h, d]
            heads = jnp.einsum('bsd,ldhe->lbhse', context.astype(config.dtype), kernel)
            if config.qkv_bias:
                heads += attention[name]['bias'].astype(config.dtype)[:, None, :, None]
            return heads  # [L, B, h, S, d]

        keys, values = projected('key'), projected('value')
        if config.qk_norm:
            norm = nn.LayerNorm(config.norm_epsilon, dtype=config.dtype, parent=None)
            keys = jax.vmap(lambda params, x: norm.apply({'params': params}, x))(
                attention['key_norm'], keys
            )
        empty = jnp.zeros((*keys.shape[:3], max_length, keys.shape[-1]), keys.dtype)
        index = jnp.zeros((), jnp.int32)
        return Cache(index, empty, empty, keys, values, jnp.asarray(context_mask))
