"""Attention for each kind of hardware, equal to `lookup` where its weights are not asked for.

FlashAttention (Dao et al. 2022), which never holds the weights in memory, is cuDNN's on GPUs, through
`jax.nn.dot_product_attention`; on TPUs it is JAX's own splash attention, which off a TPU is interpreted,
slowly, for tests. On CPUs its division at the end is what pays.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import PartitionSpec as P

_BLOCK = 128  # tokens that splash attention takes at once; a sequence is padded to a multiple
_LONG = 1024  # tokens from which on the weights of plain attention are what fills a TPU's memory


def platform() -> str:
    """What is compiled for, here or, where a mesh is of other machines, there: 'cpu', 'gpu' or 'tpu'."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def choose_kernel(query: jax.Array, key: jax.Array, mask: jax.Array | None, platform: str) -> str:
    """The implementation for queries [B, h, T, d] and keys [B, h, S, d] where none is asked for.

    Fused kernels want half precision; cuDNN's also heads of a multiple of 8 and at most 128, no mask, and
    even lengths, for it has no gradient of others; splash attention wants long sequences, and a mask
    that hides keys from all, [B, 1, 1, S].
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
    query: jax.Array, key: jax.Array, temperature: float | jax.Array, mask: jax.Array | None
) -> jax.Array:
    """query [..., T, d], key [..., S, d] -> query . key / temperature, [..., T, S] float32; see `lookup`.

    Where the mask is False they are as low as can be.
    """
    similarity = jnp.einsum('...td,...sd->...ts', query, key, preferred_element_type=jnp.float32)
    similarity = similarity / temperature
    if mask is not None:
        similarity = jnp.where(mask, similarity, jnp.finfo(similarity.dtype).min)
    return similarity


def cpu_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """As `cudnn_attention`; divides what is found by the sum of its weights, not each of [T, S] weights.

    Forward and backward pass go over these fewer times, which CPUs gain by. On a TPU, whose compiler
    fuses the passes of a softmax, it would be more traffic.
    """
    similarity = similarities(query, key, query.shape[-1] ** 0.5, mask)  # [B, h, T, S]
    weights = jnp.exp(similarity - jax.lax.stop_gradient(similarity.max(axis=-1, keepdims=True)))
    found = jnp.einsum('...ts,...se->...te', weights.astype(value.dtype), value)
    return (found / weights.sum(axis=-1, keepdims=True)).astype(value.dtype)


def cudnn_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """query [B, h, T, d], key, value [B, h, S, d], mask broadcastable to [B, h, T, S] -> [B, h, T, d]."""
    if mask is not None:
        mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
        mask = jnp.broadcast_to(mask, (*mask.shape[:2], query.shape[2], key.shape[2]))
    found = jax.nn.dot_product_attention(
        *(x.swapaxes(1, 2) for x in (query, key, value)), mask=mask, implementation='cudnn'
    )  # [B, T, h, d]
    return found.swapaxes(1, 2)


def splash_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """As `cudnn_attention`, with a mask [B, 1, 1, S] or None; each device attends for its part of the batch.

    Raises:
      ValueError: another mask.
    """
    if not _hides_keys(mask):
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

    def fitting(axis, size):
        """The mesh axes to cut an array's axis along, or None where it does not divide."""
        return None if size % math.prod(mesh.shape[a] for a in np.atleast_1d(axis or [])) else axis

    axes = P(*map(fitting, nn.logical_to_mesh_axes(('batch', 'heads')), (batch, heads)))
    whole = P(*axes, None, None)
    return jax.shard_map(
        _splash, in_specs=(whole, whole, whole, P(axes[0], None)), out_specs=whole, check_vma=False
    )(query, key, value, mask)


def _hides_keys(mask: jax.Array | None) -> bool:
    """Whether a mask only hides keys, from all queries alike."""
    return mask is None or (mask.ndim == 4 and mask.shape[1:3] == (1, 1))


def _splash(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    heads, queries, width = query.shape[1:]

    def padded(x, axis):
        more = -x.shape[axis] % _BLOCK
        return jnp.pad(x, [(0, more if i == axis else 0) for i in range(x.ndim)])

    # Where all keys are hidden, all are seen: an empty softmax would not be a number.
    visible = mask | ~mask.any(axis=1, keepdims=True)
    query, key, value = padded(query * width**-0.5, 2), padded(key, 2), padded(value, 2)
    of_keys = padded(visible.astype(jnp.int32), 1)  # [B, S], 1 where it can be seen
    of_queries = jnp.ones((query.shape[0], query.shape[2]), jnp.int32)  # [B, T]
    blocks = ('q', 'kv', 'q_dkv', 'kv_dkv', 'q_dq', 'kv_dq')
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([masks.FullMask((query.shape[2], key.shape[2]))] * heads),
        block_sizes=splash.BlockSizes(**{f'block_{block}': _BLOCK for block in blocks}),
        head_shards=1,
        q_seq_shards=1,
        interpret=platform() != 'tpu',
    )
    found = jax.vmap(kernel)(query, key, value, splash.SegmentIds(of_queries, of_keys))
    return found[:, :, :queries].astype(value.dtype)


FUSED = {'cpu': cpu_attention, 'cudnn': cudnn_attention, 'splash': splash_attention}
