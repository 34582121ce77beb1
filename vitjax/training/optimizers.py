"""Optimizers by name: what each makes of a gradient, and the chain around it that all share.

    clip by global norm -> preconditioner -> weight decay -> (LAMB: trust ratio) -> - learning rate

Weight decay is decoupled for every name (Loshchilov and Hutter, 2019): it is scaled by the learning
rate, but goes through no preconditioner. So `adam` and `adamw` are one.

The blocks of a Transformer are stored stacked: their parameters have a leading axis of layers, as
`vitjax.layers.stacks` says. Whatever an optimizer measures of a parameter, it measures of each layer by
itself, so that a stack learns as its layers would.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vitjax import registry
from vitjax.config import Count, Optimizer, Range
from vitjax.errors import UserError
from vitjax.layers.stacks import Stacks

NO_STACKS = Stacks()

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
    *,
    stacks: Stacks = NO_STACKS,
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
      stacks: which parameters are stacked over layers.
    """
    rms = optax.scale_by_factored_rms(
        decay_rate=decay_exponent,
        min_dim_size_to_factor=factor_from,
        decay_rate_fn=lambda step, exponent: jnp.minimum(b2, 1 - (step + 1.0) ** -exponent),
    )
    clip = optax.identity() if clip_rms is None else optax.clip_by_block_rms(clip_rms)
    momentum = optax.ema(b1, debias=False, accumulator_dtype=jnp.dtype(momentum_dtype))
    return optax.chain(per_layer(optax.chain(rms, clip), stacks), momentum)


def muon(
    momentum: Decay = 0.95,
    nesterov: bool = True,
    iterations: Count = 5,
    rms: Annotated[float, Range(low=0)] = 0.2,
    b1: Decay = 0.9,
    b2: Decay = 0.95,
    eps: Epsilon = 1e-8,
    adam_for: tuple[str, ...] = ('head', 'embed', 'patch', 'root'),
    *,
    stacks: Stacks = NO_STACKS,
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
      stacks: which parameters are stacked over layers.
    """
    adam_patterns = _compiled(adam_for, 'adam_for')

    def kind(path, leaf) -> str:
        name = _name(path)
        is_matrix = name.endswith('kernel') and leaf.ndim - stacks.layer_axes(name) >= 2
        return 'muon' if is_matrix and not any(p.search(name) for p in adam_patterns) else 'adam'

    def axes(path, leaf) -> optax.contrib.MuonDimensionNumbers:
        # The axis of layers is in neither group, so it is a batch of matrices.
        layer = range(stacks.layer_axes(_name(path)), leaf.ndim)
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


# Common keys of `config.optimizer`; the others are arguments of what is named.
_COMMON = tuple(field.name for field in dataclasses.fields(Optimizer))


def create(
    config: Mapping[str, Any],
    schedule: optax.Schedule,
    params: Any,
    stacks: Stacks,
    given: Any = None,
) -> optax.GradientTransformation:
    """The optimizer of a config: its complete transformation of gradients to updates.

    A built-in name is a preconditioner, which gets the chain of this module around it. An import path, or an
    object that is given, is a complete optax transformation: round it there is only what the config
    asks for, clipping, frozen parameters and layer decay. A frozen parameter has no state, its update is
    zero, and it does not count in the norm that is clipped.

    Args:
      config: `config.optimizer`.
      schedule: step -> learning rate, peak included; an import path's function gets it as `learning_rate`
        if it has such an argument.
      params: the tree of parameters, or of their shapes.
      stacks: which parameters are stacked over layers.
      given: in place of what the config names, an optax transformation or a function of the schedule.

    Raises:
      UserError: an unknown name; a pattern that is no regular expression or matches no parameter; a
        transformation that is not complete; a key that would have no effect on it.
    """
    frozen = matching(params, config['frozen'], key='frozen')
    if all(jax.tree.leaves(frozen)):
        raise UserError('config.optimizer.frozen matches every parameter: nothing is left to train')
    if given is not None or registry.is_import_path(config['name']):
        inner = [_complete(config, schedule, params, given)]
    else:
        inner = _built_in(config, schedule, params, stacks)
    clip, decay = config['clip_norm'], config['layer_decay']
    train = optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        *inner,
        *([] if decay is None else [scale_by_layer(params, decay, stacks)]),
    )
    labels = jax.tree.map(lambda is_in: 'frozen' if is_in else 'train', frozen)
    return optax.partition({'train': train, 'frozen': optax.set_to_zero()}, labels)


def takes_schedule(config: Mapping[str, Any], given: Any = None) -> bool:
    """Whether the schedule sets the learning rate: not of an optimizer that has a rate of its own."""
    if given is not None:
        return not isinstance(given, optax.GradientTransformation) and bool(
            registry.parameters(given)
        )
    if not registry.is_import_path(config['name']):
        return True
    return 'learning_rate' in registry.parameters(registry.find('optimizer', config['name']))


def _built_in(
    config: Mapping[str, Any], schedule: optax.Schedule, params: Any, stacks: Stacks
) -> list[optax.GradientTransformation]:
    """Preconditioner, weight decay, for LAMB the trust ratio, and the learning rate."""
    kind = registry.find('optimizer', config['name'])
    keys = {key: x for key, x in config.items() if key not in _COMMON}
    preconditioner = registry.call(kind, keys, stacks=stacks)
    # Which of the usual names a model has depends on the model.
    usual = Optimizer().no_decay
    spared = matching(params, config['no_decay'], key='no_decay', optional=usual)
    decayed = jax.tree.map(lambda is_in: not is_in, spared)
    is_lamb = config['name'] == 'lamb'
    return [
        preconditioner,
        optax.add_decayed_weights(config['weight_decay'] or 0.0, decayed),
        per_layer(optax.scale_by_trust_ratio(), stacks) if is_lamb else optax.identity(),
        optax.scale_by_learning_rate(schedule),
    ]


def _complete(
    config: Mapping[str, Any], schedule: optax.Schedule, params: Any, given: Any
) -> optax.GradientTransformation:
    """The transformation of an import path or object; UserError unless it is complete."""
    name = config['name'] if given is None else 'optimizer'
    make = given if given is not None else registry.find('optimizer', name)
    if isinstance(make, optax.GradientTransformation):
        _check_descends(make, params, name)
        return make
    accepted = registry.parameters(make)
    keys = {k: x for k, x in config.items() if k not in _COMMON or (k in accepted and k != 'name')}
    keys = {k: x for k, x in keys.items() if k != 'learning_rate' and given is None}
    for key in ('weight_decay', 'no_decay'):
        usual = getattr(Optimizer(), key)
        if given is None and key not in accepted and config[key] not in (usual, None):
            raise UserError(
                f'config.optimizer.{key} has no effect on {name!r}, which has no such argument: it is '
                'a complete transformation'
            )

    def made(rate: Any) -> Any:
        # A function that is given in Python takes the schedule, by whatever name.
        if given is not None and 'learning_rate' not in accepted:
            return make(rate) if accepted else make()
        return registry.call(make, keys, learning_rate=rate)

    try:
        # By a constant rate: the schedule may be 0 at the first step.
        probe, optimizer = made(1e-3), made(schedule)
    except (TypeError, ValueError) as error:
        raise UserError(f'config.optimizer: {name}: {error}') from error
    for found in (probe, optimizer):
        if not isinstance(found, optax.GradientTransformation):
            raise UserError(
                f'config.optimizer: {name} returned {type(found).__name__}, not an optax '
                'transformation (init, update)'
            )
    _check_descends(probe, params, name)
    usual = Optimizer().learning_rate
    if not takes_schedule(config, given) and given is None and config['learning_rate'] != usual:
        raise UserError(
            f'config.optimizer.learning_rate has no effect on {name!r}, which has no such argument'
        )
    return optimizer


def _check_descends(optimizer: optax.GradientTransformation, params: Any, name: str) -> None:
    """UserError if an optimizer goes along the gradient, as what is only a part of one does.

    It is tried on parameters of the same names, all 0 and small, whose gradient is 1.
    """
    small = jax.tree.map(lambda x: jnp.zeros([min(n, 2) for n in x.shape], jnp.float32), params)
    try:
        state = optimizer.init(small)
        updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, small), state, small)
        moved = float(sum(jnp.sum(x) for x in jax.tree.leaves(updates)))
    except Exception:  # it may need the sizes that the parameters have
        return
    if moved > 0:
        raise UserError(
            f'config.optimizer: {name} is not a complete transformation: its updates go along the '
            'gradient, so that the loss would grow; end its chain with optax.scale_by_learning_rate'
        )


def scale_by_layer(params: Any, decay: float, stacks: Stacks) -> optax.GradientTransformation:
    """Scales updates the less, the nearer to the head their parameters are (Bao et al. 2022, BEiT).

    Those of block l of L, the first of which is 1, by decay ** (L + 1 - l); those of what embeds the
    image, which comes before, by decay ** (L + 1); the rest not at all.

    Args:
      params: a tree of parameters, or of their shapes; its blocks are one stack.
      decay: above 0, usually in [0.5, 1].
      stacks: which parameters are stacked over layers, and which come before them.

    Raises:
      UserError: no stack of blocks, or several, or one before which nothing is declared.
    """
    leaves = [(_name(path), leaf) for path, leaf in jax.tree.leaves_with_path(params)]
    depths = {
        stack: leaf.shape[0]
        for name, leaf in leaves
        if (stack := stacks.stack_of(name)) is not None
    }
    if len(depths) != 1:
        raise UserError(
            'config.optimizer.layer_decay takes a model with one stack of blocks, not '
            f'{", ".join(sorted(depths)) or "none"}'
        )
    ((stack, depth),) = depths.items()
    if not stacks.owners(stack):
        raise UserError(
            f'config.optimizer.layer_decay: no module declares what comes before the stack {stack!r}; name '
            'its submodules and parameters in an attribute before_blocks, see vitjax.layers.stacks'
        )

    def scaled(path, update):
        name = _name(path)
        if stacks.stack_of(name) is not None:
            scales = decay ** np.arange(depth, 0, -1)  # [L]
            return update * scales.reshape(-1, *[1] * (update.ndim - 1)).astype(update.dtype)
        return update * decay ** (depth + 1) if stacks.is_before(name, stack) else update

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


def per_layer(inner: optax.GradientTransformation, stacks: Stacks) -> optax.GradientTransformation:
    """Applies a transformation to each layer of stacked parameters as if it stood alone."""

    def depth(path, leaf) -> str:
        layers = leaf.shape[: stacks.layer_axes(_name(path))]
        return f'layers{"x".join(map(str, layers))}' if layers else 'single'

    def over_layers(label) -> optax.GradientTransformation:
        found = inner
        for _ in range(0 if label == 'single' else len(label.split('x'))):
            found = optax.GradientTransformation(jax.vmap(found.init), jax.vmap(found.update))
        return found

    def divided(tree) -> optax.GradientTransformation:
        # One group for each depth (of an encoder, of a decoder): `vmap` wants axes of one length.
        depths = jax.tree.map_with_path(depth, tree)
        kinds = {label: over_layers(label) for label in jax.tree.leaves(depths)}
        return optax.partition(kinds, depths)

    return optax.GradientTransformation(
        lambda params: divided(params).init(params),
        lambda updates, state, params: divided(updates).update(updates, state, params),
    )


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='/')


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
