"""Optimizers by name: what each makes of a gradient, and the chain around it that all share.

    clip by global norm -> preconditioner -> weight decay -> (LAMB: trust ratio) -> - learning rate

Weight decay is decoupled for every name (Loshchilov and Hutter, 2019): it is scaled by the learning
rate, but goes through no preconditioner. So `adam` and `adamw` are one.

The blocks of a Transformer are stored stacked: a parameter with `blocks` in its path has a leading
axis of layers. Whatever an optimizer measures of a parameter, it measures of each layer by itself,
so that a stack learns as its layers would.
"""

import difflib
import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from vitjax.config import Count, Optimizer, Range, signature
from vitjax.errors import UserError, unknown
from vitjax.layers.transformer import is_stacked

# Names of the parameters of a ViT that come before its blocks.
_EMBEDS = re.compile(r'backbone/|patch_embedding/|embedding_norm/|positions$|\w+_tokens?$')

# 1 would average over all time, and divide by zero where the start is corrected for.
Decay = Annotated[float, Range(0, 0.999999)]
Epsilon = Annotated[float, Range(low=0)]


def sgd(momentum: Decay = 0.9, nesterov: bool = False) -> optax.GradientTransformation:
    """Stochastic gradient descent, with momentum unless that is 0."""
    return optax.trace(momentum, nesterov) if momentum else optax.identity()


def adam(b1: Decay = 0.9, b2: Decay = 0.999, eps: Epsilon = 1e-8) -> optax.GradientTransformation:
    """Adam (Kingma and Ba, 2015)."""
    return optax.scale_by_adam(b1, b2, eps)


def lamb(b1: Decay = 0.9, b2: Decay = 0.999, eps: Epsilon = 1e-6) -> optax.GradientTransformation:
    """LAMB (You et al., 2020, algorithm 2) up to its trust ratio, which follows weight decay."""
    return optax.scale_by_adam(b1, b2, eps)


def lion(b1: Decay = 0.9, b2: Decay = 0.99) -> optax.GradientTransformation:
    """Lion (Chen et al., 2023): a tenth of Adam's learning rate and ten times its decay suit it."""
    return optax.scale_by_lion(b1, b2)


def adafactor(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    decay_exponent: Annotated[float, Range(0, 1)] = 0.8,
    clip_rms: Annotated[float, Range(low=1)] | None = 1.0,
    factor_from: Count = 32,
    momentum_dtype: Literal['bfloat16', 'float32'] = 'bfloat16',
) -> optax.GradientTransformation:
    """Adafactor (Shazeer and Stern, 2018) as Zhai et al. (2022, 3.4) use it on Vision Transformers.

    That is with a momentum in half precision, and with no scaling by the norm of the parameter.

    Args:
      b1: decay of the momentum.
      b2: the greatest decay of the second moment, which is `1 - step ** -decay_exponent` before.
      decay_exponent: how fast that grows.
      clip_rms: greatest root mean square of a parameter's update; None: any.
      factor_from: the second moment is kept as a row and a column if the two longest axes are at
        least this long.
      momentum_dtype: what the momentum is stored in.
    """
    rms = optax.scale_by_factored_rms(
        decay_rate=decay_exponent,
        min_dim_size_to_factor=factor_from,
        decay_rate_fn=lambda step, exponent: jnp.minimum(b2, 1 - (step + 1.0) ** -exponent),
    )
    clip = optax.identity() if clip_rms is None else optax.clip_by_block_rms(clip_rms)
    momentum = optax.ema(b1, debias=False, accumulator_dtype=jnp.dtype(momentum_dtype))
    return optax.chain(per_layer(optax.chain(rms, clip)), momentum)


def muon(
    momentum: Decay = 0.95,
    nesterov: bool = True,
    iterations: Count = 5,
    rms: Annotated[float, Range(low=0)] = 0.2,
    b1: Decay = 0.9,
    b2: Decay = 0.95,
    eps: Epsilon = 1e-8,
    adam_for: tuple[str, ...] = ('head', 'embed', 'patch', 'root'),
) -> optax.GradientTransformation:
    """Muon (Jordan et al., 2024) for hidden kernels, Adam for the rest: biases, norms, tokens ...

    A kernel is a matrix from all its inputs to all its outputs: attention's query, key and value
    [D, h, d] are D x hd, its output [h, d, D] is hd x D, a convolution [Kh, Kw, I, O] is KhKwI x O.

    Args:
      momentum: decay of the momentum that is made orthogonal.
      nesterov: look ahead by one step.
      iterations: Newton-Schulz iterations.
      rms: root mean square of an orthogonal update; at 0.2 the learning rate and the weight decay
        of AdamW suit it too (Liu et al., "Muon is Scalable for LLM Training", 2025, 2.2).
      b1: Adam's decay of the first moment.
      b2: Adam's decay of the second moment.
      eps: Adam's epsilon.
      adam_for: patterns of the names of kernels that are left to Adam: the first and the last.
    """
    adam_patterns = _compiled(adam_for, 'adam_for')

    def kind(path, leaf) -> str:
        name = _name(path)
        is_matrix = name.endswith('kernel') and leaf.ndim - _is_stacked(path) >= 2
        return 'muon' if is_matrix and not any(p.search(name) for p in adam_patterns) else 'adam'

    def axes(path, leaf) -> optax.contrib.MuonDimensionNumbers:
        # The axis of layers is in neither group, so it is a batch of matrices.
        layer = range(_is_stacked(path), leaf.ndim)
        inputs = 1 if re.search(r'(query|key|value)/kernel$', _name(path)) else len(layer) - 1
        return optax.contrib.MuonDimensionNumbers(tuple(layer[:inputs]), tuple(layer[inputs:]))

    def match_rms(path, update):
        # The singular values are near 1, hence the root mean square is near sqrt(1 / longer side).
        sides = (math.prod(update.shape[axis] for axis in side) for side in axes(path, update))
        return rms * math.sqrt(max(sides)) * update

    orthogonal = optax.chain(
        optax.contrib.scale_by_muon(
            ns_steps=iterations,
            beta=momentum,
            nesterov=nesterov,
            weight_dimension_numbers=lambda tree: jax.tree.map_with_path(axes, tree),
        ),
        optax.stateless(lambda updates, params: jax.tree.map_with_path(match_rms, updates)),
    )
    return optax.partition(
        {'muon': orthogonal, 'adam': adam(b1, b2, eps)},
        lambda tree: jax.tree.map_with_path(kind, tree),
    )


OPTIMIZERS = {
    'sgd': sgd,
    'adam': adam,
    'adamw': adam,
    'lamb': lamb,
    'lion': lion,
    'adafactor': adafactor,
    'muon': muon,
}


def create(
    config: ml_collections.ConfigDict, schedule: optax.Schedule, params: Any
) -> optax.GradientTransformation:
    """The update of a step, from a gradient to what is added to the parameters.

    Its state is a tree of arrays. A frozen parameter has none, its update is zero, and it does not
    count in the norm that is clipped.

    Args:
      config: `config.optimizer`.
      schedule: step -> learning rate, peak included.
      params: the tree of parameters, or of their shapes.

    Raises:
      UserError: an unknown name; a pattern that is no regular expression or matches no parameter.
    """
    if config.name not in OPTIMIZERS:
        raise unknown('optimizer', config.name, OPTIMIZERS)
    kind = OPTIMIZERS[config.name]
    preconditioner = kind(**{name: config[name] for name in signature(kind)})
    frozen = matching(params, config.frozen, key='frozen')
    if all(jax.tree.leaves(frozen)):
        raise UserError('config.optimizer.frozen matches every parameter: nothing is left to train')
    # Which of the usual names a model has depends on the model.
    usual = Optimizer().no_decay
    spared = matching(params, config.no_decay, key='no_decay', optional=usual)
    clip = config.clip_norm
    by_layer = [] if config.layer_decay is None else [scale_by_layer(params, config.layer_decay)]
    train = optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        preconditioner,
        optax.add_decayed_weights(
            config.weight_decay, jax.tree.map(lambda is_in: not is_in, spared)
        ),
        per_layer(optax.scale_by_trust_ratio()) if config.name == 'lamb' else optax.identity(),
        optax.scale_by_learning_rate(schedule),
        *by_layer,
    )
    labels = jax.tree.map(lambda is_in: 'frozen' if is_in else 'train', frozen)
    return optax.partition({'train': train, 'frozen': optax.set_to_zero()}, labels)


def scale_by_layer(params: Any, decay: float) -> optax.GradientTransformation:
    """Scales updates the less, the nearer to the head their parameters are (Bao et al. 2022, BEiT).

    Those of block l of L, the first of which is 1, by decay ** (L + 1 - l); those of what embeds the
    image, which comes before, by decay ** (L + 1); the rest not at all.

    Args:
      params: a tree of parameters, or of their shapes; its blocks are one stack.
      decay: above 0, usually in [0.5, 1].

    Raises:
      UserError: no stack of blocks, or several.
    """
    depths = {
        _name(path).split('/blocks/')[0]: leaf.shape[0]
        for path, leaf in jax.tree.leaves_with_path(params)
        if _is_stacked(path)
    }
    if len(depths) != 1:
        raise UserError(
            'config.optimizer.layer_decay takes a model with one stack of blocks, not '
            f'{", ".join(sorted(depths)) or "none"}'
        )
    (depth,) = depths.values()

    def scaled(path, update):
        if _is_stacked(path):
            scales = decay ** np.arange(depth, 0, -1)  # [L]
            return update * scales.reshape(-1, *[1] * (update.ndim - 1)).astype(update.dtype)
        return update * decay ** (depth + 1) if _EMBEDS.match(_name(path)) else update

    return optax.stateless(lambda updates, _: jax.tree.map_with_path(scaled, updates))


def matching(
    params: Any, patterns: Iterable[str], *, key: str, optional: Iterable[str] = ()
) -> Any:
    """Which parameters have a name ('encoder/norm/scale') in which a pattern is found, as bools.

    Args:
      params: a tree of parameters, or of their shapes.
      patterns: regular expressions.
      key: of `config.optimizer`, for the error.
      optional: the patterns that may match nothing.

    Raises:
      UserError: no regular expression; or it matches nothing and is not in `optional`.
    """
    patterns = _compiled(patterns, key)
    names = jax.tree.map_with_path(lambda path, _: _name(path), params)
    every = jax.tree.leaves(names)
    for pattern in patterns:
        if pattern.pattern not in optional and not any(map(pattern.search, every)):
            near = difflib.get_close_matches(pattern.pattern, every, n=3, cutoff=0)
            raise UserError(
                f'config.optimizer.{key}: {pattern.pattern!r} matches no parameter; '
                f'there are {len(every)}, such as {", ".join(near)}'
            )
    return jax.tree.map(lambda name: any(p.search(name) for p in patterns), names)


def per_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Applies a transformation to each layer of stacked parameters as if it stood alone."""
    stacked = optax.GradientTransformation(jax.vmap(inner.init), jax.vmap(inner.update))

    def depth(path, leaf) -> str:
        return f'layers{leaf.shape[0]}' if _is_stacked(path) else 'single'

    def divided(tree) -> optax.GradientTransformation:
        # One group for each depth (of an encoder, of a decoder): `vmap` wants axes of one length.
        depths = jax.tree.map_with_path(depth, tree)
        kinds = {name: inner if name == 'single' else stacked for name in jax.tree.leaves(depths)}
        return optax.partition(kinds, depths)

    return optax.GradientTransformation(
        lambda params: divided(params).init(params),
        lambda updates, state, params: divided(updates).update(updates, state, params),
    )


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='/')


def _is_stacked(path) -> bool:
    return is_stacked(_name(path))


def _compiled(patterns: Iterable[str], key: str) -> list[re.Pattern]:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UserError(
                f'config.optimizer.{key}: {pattern!r} is no regular expression: {error}'
            ) from error
    return compiled
