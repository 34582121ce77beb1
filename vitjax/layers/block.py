"""Hyperparameters of a Transformer block, shared by models, stacks, blocks and attention pooling."""

import dataclasses

import jax.numpy as jnp
from jax.typing import DTypeLike


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """Hyperparameters of a block, the same for all blocks of a stack.

    Attributes:
      num_heads: heads h of the attention.
      mlp_dim: hidden width M of the MLP.
      activation, gated_mlp: see `vitjax.layers.mlp`.
      norm_position: 'pre' (before attention and MLP; Dosovitskiy et al. 2021, eq. 2) or 'post'
        (after each sum; Vaswani et al. 2017, section 3.1).
      norm_epsilon: of every LayerNorm.
      layer_scale: initial value of LayerScale (Touvron et al. 2021), or None for no LayerScale.
      qkv_bias, qk_norm, attention_kernel: see `MultiHeadAttention`.
      dropout: after attention, in and after the MLP.
      dtype: of the computation; parameters, statistics of norms and softmax are float32.
    """

    num_heads: int
    mlp_dim: int
    activation: str = 'gelu_tanh'
    gated_mlp: bool = False
    norm_position: str = 'pre'
    norm_epsilon: float = 1e-6
    layer_scale: float | None = None
    qkv_bias: bool = True
    qk_norm: bool = False
    attention_kernel: str = 'auto'
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
