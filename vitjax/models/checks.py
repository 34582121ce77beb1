"""Checks of constructor arguments that models share; each raises a one-line ValueError."""

import dataclasses
import numbers
import typing
from typing import Any

from flax import linen as nn

from vitjax.layers.arrays import Array
from vitjax.layers.choices import check_choice
from vitjax.layers.patches import as_pair


def lists_to_tuples(model: nn.Module) -> None:
    """Converts lists to tuples, so that the model is hashable; call it before Flax's `__post_init__`."""
    for field in dataclasses.fields(model):
        if isinstance(value := getattr(model, field.name), list):
            setattr(model, field.name, tuple(value))


def check_choices(model: nn.Module, *names: str) -> None:
    """Checks that the value of each named field is in its `Literal` annotation."""
    # The annotations of a subclass, which nn.jit and nn.remat make too, lack those of its base.
    annotations = {field.name: field.type for field in dataclasses.fields(model)}
    for name in names:
        check_choice(name, getattr(model, name), typing.get_args(annotations[name]))


def check_at_least(model: nn.Module, least: int, *names: str) -> None:
    """Checks that each named field, or each number of a tuple, is None or at least `least`."""
    for name in names:
        value = getattr(model, name)
        each = value if isinstance(value, tuple) else (value,)
        if not all(x is None or (_is_number(x) and x >= least) for x in each):
            raise ValueError(f'{name} must be at least {least}, not {value!r}')


def check_rates(model: nn.Module, *names: str) -> None:
    """Checks that each named field is a dropout rate, in [0, 1)."""
    for name in names:
        value = getattr(model, name)
        if not _is_number(value) or not 0 <= value < 1:
            raise ValueError(f'{name} must be in [0, 1), not {value!r}')


def check_epsilon(model: nn.Module) -> None:
    """Checks that `norm_epsilon` is above 0."""
    value = model.norm_epsilon
    if not _is_number(value) or not value > 0:
        raise ValueError(f'norm_epsilon must be above 0, not {value!r}')


def check_heads(model: nn.Module) -> None:
    """Checks that `num_heads` divides `width`."""
    width, heads = model.width, model.num_heads
    if width % heads:
        near = [n for n in range(1, width + 1) if width % n == 0]
        near = sorted(near, key=lambda n: abs(n - heads))[:3]
        raise ValueError(
            f'num_heads {heads} does not divide width {width}; '
            f'nearest that do: {", ".join(map(str, sorted(near)))}'
        )


def check_width(model: nn.Module) -> None:
    """Checks that `num_heads` divides `width`, and that the width fits fixed positions."""
    check_heads(model)
    what, width = 'a width', model.width
    if model.positions == 'rotary':
        what, width = 'heads of a width', model.width // model.num_heads
    divisor = {'sinusoidal': 2, 'sincos2d': 4, 'sincos2d_mae': 4, 'rotary': 4}
    if width % divisor.get(model.positions, 1):
        raise ValueError(
            f"positions '{model.positions}' need {what} that {divisor[model.positions]} divides, "
            f'not {width}'
        )


def check_image_size(model: nn.Module) -> None:
    """Checks that the image has at least one pixel."""
    if min(as_pair(model.image_size)) < 1:
        raise ValueError(f'image_size must be at least 1, not {model.image_size}')


def check_images(model: nn.Module, images: Array) -> None:
    """Checks that images [B, H, W, C] have the model's image size and channels."""
    expected = (*as_pair(model.image_size), model.in_channels)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f'this model takes images [batch, {", ".join(map(str, expected))}], '
            f'not {list(images.shape)}; build or load it with another image_size or in_channels'
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)
