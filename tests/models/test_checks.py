"""Checks of constructor arguments: what passes, and the message for what does not."""

from typing import Literal

import jax.numpy as jnp
import pytest
from flax import linen as nn

from vitjax.models import checks


class Model(nn.Module):
    width: int = 12
    num_heads: int = 3
    positions: str = 'learned'
    image_size: int | tuple[int, int] = (4, 6)
    in_channels: int = 2
    norm_epsilon: float = 1e-6
    rate: float = 0.1
    depths: tuple[int, ...] | None = (1, 2)
    mode: Literal['a', 'b'] = 'a'


@pytest.mark.parametrize(
    ('changes', 'check', 'message'),
    [
        ({'mode': 'c'}, lambda m: checks.check_choices(m, 'mode'), 'mode'),
        ({'depths': (0, 1)}, lambda m: checks.check_at_least(m, 1, 'depths'), 'at least 1'),
        ({'width': 'x'}, lambda m: checks.check_at_least(m, 1, 'width'), 'at least 1'),
        ({'rate': 1.0}, lambda m: checks.check_rates(m, 'rate'), r'in \[0, 1\)'),
        ({'rate': float('nan')}, lambda m: checks.check_rates(m, 'rate'), r'in \[0, 1\)'),
        ({'norm_epsilon': 0.0}, checks.check_epsilon, 'above 0'),
        ({'num_heads': 5}, checks.check_heads, 'nearest that do: 3, 4, 6'),
        ({'width': 6, 'positions': 'sincos2d'}, checks.check_width, 'a width that 4 divides'),
        ({'positions': 'rotary', 'num_heads': 2}, checks.check_width, 'heads of a width that 4'),
        ({'image_size': (4, 0)}, checks.check_image_size, 'at least 1'),
        (
            {'image_size': 5},
            lambda m: checks.check_images(m, jnp.zeros((1, 4, 6, 2))),
            r'takes images \[batch, 5, 5, 2\], not \[1, 4, 6, 2\]',
        ),
    ],
)
def test_check_accepts_the_default_and_refuses_the_change(changes, check, message):
    if 'image_size' not in changes:
        check(Model())
    with pytest.raises(ValueError, match=message):
        check(Model(**changes))


def test_none_passes_check_at_least():
    checks.check_at_least(Model(depths=None), 1, 'depths')


def test_lists_become_tuples():
    model = Model(depths=[1, 2])
    checks.lists_to_tuples(model)
    assert model.depths == (1, 2)
