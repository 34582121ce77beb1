"""Checks that a model has the methods and attributes that an analysis needs; its class does not matter."""

from collections.abc import Sequence

from flax import linen as nn

from vitjax.errors import UserError


def check_abilities(
    model: nn.Module, analysis: str, methods: Sequence[str], attributes: Sequence[str] = ()
) -> None:
    """UserError if a model lacks methods or attributes that an analysis needs; the message names them."""
    lacking = [f'{name}()' for name in methods if not callable(getattr(model, name, None))]
    lacking += [name for name in attributes if not hasattr(model, name)]
    if lacking:
        raise UserError(
            f'{analysis} needs {", ".join(lacking)}, which {type(model).__name__} lacks; '
            'vitjax.protocols describes the methods of a model'
        )
