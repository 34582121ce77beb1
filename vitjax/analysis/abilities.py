"""What an analysis asks of a model: methods and attributes by name, never a class."""

from collections.abc import Sequence

from flax import linen as nn

from vitjax.errors import UserError


def check_abilities(
    model: nn.Module, analysis: str, methods: Sequence[str], attributes: Sequence[str] = ()
) -> None:
    """UserError that names the methods and attributes that an analysis needs and a model lacks."""
    lacking = [f'{name}()' for name in methods if not callable(getattr(model, name, None))]
    lacking += [name for name in attributes if not hasattr(model, name)]
    if lacking:
        raise UserError(
            f'{analysis} needs {", ".join(lacking)}, which {type(model).__name__} lacks; '
            'vitjax.protocols describes the methods of a model'
        )
