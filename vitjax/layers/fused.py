"""Implementations of attention for each kind of hardware; results equal those of `lookup`, without weights.

FlashAttention (Dao et al. 2022), which never holds the weights in memory, is cuDNN's on GPUs, through
`jax.nn.dot_product_attention`; on TPUs it is JAX's splash attention, which other devices run in Pallas's slow
interpreter, for tests. On CPUs only its division after the sum makes attention faster.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import PartitionSpec as P
from jaxtyping import Bool, Float, Num

from vitjax.layers.arrays import Array

_BLOCK = 128  # block size of splash attention in tokens; sequences are padded to a multiple
_LONG = 1024  # from this many tokens on, the weights of plain attention dominate a TPU's memory


def platform() -> str:
    """The platform to compile for, 'cpu', 'gpu' or 'tpu': that of the current mesh, else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def choose_kernel(
    query: Float[Array, 'B h T d'],
    key: Float[Array, 'B h S d'],
    mask: Bool[Array, '...'] | None,
    platform: str,
) -> str:
    """Chooses the implementation for `kernel='auto'`.

    Fused kernels need half precision. cuDNN also needs a head width that is a multiple of 8 and at most 128,
    no mask, and even lengths, because it has no gradient for odd ones. Splash attention is chosen for long
    sequences, with no mask or one [B, 1, 1, S] that is the same for all queries.
    """
    if platform == 'cpu':
        return 'cpu'
    *_, queries, width = query.shape
    keys = key.shape[-2]
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return 'xla'
    even = queries % 2 == 0 and keys % 2 == 0
    if platform == 'gpu' and mask is None and even and width % 8 == 0 and width <= 128:
        return 'cudnn'
    if platform == 'tpu' and min(queries, keys) >= _LONG and _hides_keys(mask):
        return 'splash'
    return 'xla'


def similarities(
    query: Num[Array, '*batch T d'],
    key: Num[Array, '*batch S d'],
    temperature: float | Float[Array, '...'],
    mask: Bool[Array, '...'] | None,
) -> Float[jax.Array, '*batch T S']:
    """query . key / temperature, float32, see `lookup`.

    Where the mask is False they have the lowest finite value.
    """
    similarity = jnp.einsum('...td,...sd->...ts', query, key, preferred_element_type=jnp.float32)
    similarity = similarity / temperature
    if mask is not None:
        similarity = jnp.where(mask, similarity, jnp.finfo(similarity.dtype).min)
    return similarity


def cpu_attention(
    query: Float[Array, 'B h T d'],
    key: Float[Array, 'B h S d'],
    value: Float[Array, 'B h S d'],
    mask: Bool[Array, '...'] | None,
) -> Float[jax.Array, 'B h T d']:
    """Attention with a mask broadcastable to [B, h, T, S] that normalises the result, not the [T, S] weights.

    Forward and backward pass read the weights fewer times, which is faster on CPUs. On a TPU, whose compiler
    fuses the passes of a softmax, it would be more memory traffic.
    """
    similarity = similarities(query, key, query.shape[-1] ** 0.5, mask)  # [B, h, T, S]
    weights = jnp.exp(similarity - jax.lax.stop_gradient(similarity.max(axis=-1, keepdims=True)))
    found = jnp.einsum('...ts,...se->...te', weights.astype(value.dtype), value)
    return (found / weights.sum(axis=-1, keepdims=True)).astype(value.dtype)


def cudnn_attention(
    query: Float[Array, 'B h T d'],
    key: Float[Array, 'B h S d'],
    value: Float[Array, 'B h S d'],
    mask: Bool[Array, '...'] | None,
) -> Float[jax.Array, 'B h T d']:
    """cuDNN's FlashAttention, with a mask broadcastable to [B, h, T, S]."""
    if mask is not None:
        mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], query.shape[2], key.shape[2]))
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    found = jax.nn.dot_product_attention(
        query, key, value, mask=mask, implementation='cudnn'
    )  # [B, T, h, d]
    return found.swapaxes(1, 2)


def splash_attention(
    query: Float[Array, 'B h T d'],
    key: Float[Array, 'B h S d'],
    value: Float[Array, 'B h S d'],
    mask: Bool[Array, '...'] | None,
) -> Float[jax.Array, 'B h T d']:
    """JAX's splash attention; on a mesh each device computes its part of the batch and of the heads.

    Raises:
      ValueError: the mask is not None or [B, 1, 1, S].
    """
    if mask is not None and not _hides_keys(mask):
        raise ValueError(
            f'splash attention takes a mask [B, 1, 1, S], the same for all queries, not {mask.shape}'
        )
    batch, heads = query.shape[:2]
    if mask is None:
        mask = jnp.ones((batch, key.shape[-2]), bool)
    else:
        mask = jnp.broadcast_to(mask[:, 0, 0], (batch, key.shape[-2]))  # [B, S]
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return _splash(query, key, value, mask)

    def divisible(axis, size):
        """The mesh axes over which to shard an array axis, or None where they do not divide it."""
        return None if size % math.prod(mesh.shape[a] for a in np.atleast_1d(axis or [])) else axis

    mesh_axes = nn.logical_to_mesh_axes(('batch', 'heads')) or (None, None)
    axes = P(*map(divisible, mesh_axes, (batch, heads)))
    spec = P(*axes, None, None)
    return jax.shard_map(
        _splash, in_specs=(spec, spec, spec, P(axes[0], None)), out_specs=spec, check_vma=False
    )(query, key, value, mask)


def _hides_keys(mask: Array | None) -> bool:
    """Whether a mask is the same for all queries (and heads)."""
    return mask is None or (mask.ndim == 4 and mask.shape[1:3] == (1, 1))


def _splash(query: Array, key: Array, value: Array, mask: Array) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    heads, queries, width = query.shape[1:]

    def padded(x, axis):
        more = -x.shape[axis] % _BLOCK
        return jnp.pad(x, [(0, more if i == axis else 0) for i in range(x.ndim)])

    # Where all keys are masked none is, because a softmax over nothing is NaN.
    visible = mask | ~mask.any(axis=1, keepdims=True)
    query, key, value = padded(query * width**-0.5, 2), padded(key, 2), padded(value, 2)
    of_keys = padded(visible.astype(jnp.int32), 1)  # [B, S], 1 where visible
    of_queries = jnp.ones((query.shape[0], query.shape[2]), jnp.int32)  # [B, T]
    blocks = ('q', 'kv', 'q_dkv', 'kv_dkv', 'q_dq', 'kv_dq')
    sizes: dict[str, Any] = {f'block_{block}': _BLOCK for block in blocks}
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([masks.FullMask((query.shape[2], key.shape[2]))] * heads),
        block_sizes=splash.BlockSizes(**sizes),
        head_shards=1,
        q_seq_shards=1,
        interpret=platform() != 'tpu',
    )
    found = jax.vmap(kernel)(query, key, value, splash.SegmentIds(of_queries, of_keys))
    return found[:, :, :queries].astype(value.dtype)


FUSED = {'cpu': cpu_attention, 'cudnn': cudnn_attention, 'splash': splash_attention}
