"""The Transformer: a block, and the stacks of blocks, encoder and decoder."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from vitjax.layers.attention import MultiHeadAttention
from vitjax.layers.block import BlockConfig
from vitjax.layers.cache import Cache
from vitjax.layers.choices import check_choice
from vitjax.layers.mlp import MLP


class Block(nn.Module):
    """Self-attention, in a decoder cross-attention to a context, then MLP; each is added to its input.

    Attributes:
      config: what the block is.
      cross_attention: whether there is a context to attend to.
      deterministic: True in use, False in training with dropout or drop path.
      keep: what to return beside the tokens: any of 'blocks', 'attention', 'cross_attention'.
    """

    config: BlockConfig
    cross_attention: bool = False
    deterministic: bool = True
    keep: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self,
        carry: tuple[jax.Array, Cache | None],
        layer: dict[str, jax.Array],
        mask: jax.Array | None = None,
        angles: jax.Array | None = None,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
    ) -> tuple[tuple[jax.Array, Cache | None], dict[str, jax.Array]]:
        """One layer of a stack.

        Args:
          carry: tokens [B, T, D] and, where a decoder writes token after token, the cache.
          layer: 'index' and 'drop_path' rate of this layer, scalars.
          mask, angles: of self-attention, see `MultiHeadAttention`.
          context, context_mask: [B, S, D], and broadcastable to [B, h, T, S], of cross-attention; with
            a cache no context is needed.

        Returns:
          The carry for the next layer, and a dict with what `keep` names.
        """
        config, (x, cache) = self.config, carry
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
            append = None if cache is None else update_cache
            return attend('attention', y, mask=mask, angles=angles, append=append)

        def cross_attention(y):
            found = None
            if cache is not None:
                found = cache.context_keys[layer['index']], cache.context_values[layer['index']]
            return attend('cross_attention', y, context, mask=context_mask, keys_values=found)

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

        # One constraint a block is what keeps activations cut along the batch under FSDP.
        x = nn.with_logical_constraint(x, ('batch', 'length', None))  # [B, T, D]
        kept['blocks'] = x
        return (x, cache), {name: kept[name] for name in self.keep}

    def _add(
        self,
        name: str,
        x: jax.Array,
        branch: Callable[[jax.Array], jax.Array],
        drop_path: jax.Array,
    ) -> jax.Array:
        """x and what a branch makes of it: normalised before, or the sum normalised after."""
        config = self.config
        norm = nn.LayerNorm(config.norm_epsilon, dtype=config.dtype, name=f'{name}_norm')
        if config.norm_position == 'post':
            return norm(x + self._regularised(branch(x), f'{name}_scale', drop_path))
        return x + self._regularised(branch(norm(x)), f'{name}_scale', drop_path)

    def _regularised(self, y: jax.Array, scale: str, drop_path: jax.Array) -> jax.Array:
        """What is added to the residual stream: dropout, LayerScale, drop path."""
        y = nn.Dropout(self.config.dropout, deterministic=self.deterministic)(y)
        if self.config.layer_scale is not None:
            initial = nn.initializers.constant(self.config.layer_scale)
            y = y * self.param(scale, initial, (y.shape[-1],)).astype(y.dtype)
        if self.deterministic:
            return y
        # Stochastic depth, an example at a time (Huang et al. 2016).
        shape = (y.shape[0], *(1,) * (y.ndim - 1))
        kept = jax.random.bernoulli(self.make_rng('dropout'), 1 - drop_path, shape)
        return jnp.where(kept, y / (1 - drop_path).astype(y.dtype), 0)


class Stack(nn.Module):
    """A stack of blocks; the caller embeds before and, with 'pre', normalises after it.

    Parameters are held stacked, under `blocks`, with a leading axis of `depth` layers. `scan` and
    `remat` change neither them nor the results: they trade compile time and memory for speed.

    Attributes:
      depth: blocks L.
      config: what each block is.
      drop_path: of the last block; it rises linearly from 0 at the first.
      scan: compile one block and loop over the layers, not all of them one after another.
      remat: recompute a block's activations in the backward pass, not store them.
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
        """The stack as one module that takes what `Block` takes, with arrays of layers for `layer`."""
        check_choice('norm_position', self.config.norm_position, ('pre', 'post'))
        # Under `scan` the backward loop keeps the recomputation apart; unrolled, only a barrier does.
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
        """What differs from layer to layer, besides the parameters."""
        rates = jnp.linspace(0.0, self.drop_path, self.depth)
        return {'index': jnp.arange(self.depth), 'drop_path': rates}


class Encoder(Stack):
    """Blocks in which every token sees every other one that the mask leaves it."""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        angles: jax.Array | None = None,
        train: bool = False,
        keep: tuple[str, ...] = (),
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Tokens [B, T, D] -> tokens [B, T, D] and what `keep` names.

        `keep` may hold 'blocks' ([L, B, T, D], the tokens after each block) and 'attention'
        ([L, B, h, T, T]). The mask is bool, broadcastable to [B, h, T, T]; the angles [T, d / 2], of
        rotary positions, turn the queries and keys of every block (see `vitjax.layers.positions`).
        """
        blocks = self._blocks(train=train, keep=keep, cross_attention=False, scan=self.scan)
        (x, _), kept = blocks((x, None), self._layers(), mask, angles, None, None)
        return x, kept


class Decoder(Stack):
    """Blocks that also attend to a context, such as the encoded source of a translation."""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        context: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        angles: jax.Array | None = None,
        cache: Cache | None = None,
        train: bool = False,
        keep: tuple[str, ...] = (),
    ) -> tuple[jax.Array, Cache | None, dict[str, jax.Array]]:
        """Tokens [B, T, D] -> tokens [B, T, D], the cache, and what `keep` names.

        As `Encoder`, and: `context` is [B, S, D], `context_mask` broadcastable to [B, h, T, S], and
        `keep` may hold 'cross_attention' ([L, B, h, T, S]). With a cache from `start`, in place of
        the context, the tokens are those that come next: self-attention sees the ones before through
        the cache, and the mask is broadcastable to [B, h, T, most tokens].
        """
        # Token by token, layers are unrolled: a loop would copy the weights of each out of the stack.
        scan = self.scan and cache is None
        blocks = self._blocks(train=train, keep=keep, cross_attention=True, scan=scan)
        (x, cache), kept = blocks((x, cache), self._layers(), mask, angles, context, context_mask)
        if cache is not None:
            cache = cache.replace(index=cache.index + x.shape[1])
        return x, cache, kept

    def start(self, context: jax.Array, context_mask: jax.Array, max_length: int) -> Cache:
        """An empty cache for `max_length` tokens, with the keys and values of a context [B, S, D]."""
        config = self.config
        attention = self.variables['params']['blocks']['cross_attention']

        def projected(name):
            # Stacked, all layers are one matrix product.
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
        return Cache(index, empty, empty, keys, values, context_mask)
