"""Pictures that commands write, by matplotlib, which an extra brings."""

from pathlib import Path
from typing import Any

from vitjax.errors import UserError


def check_picture(path: Path) -> None:
    """UserError where no picture can be drawn to a path, so that a mistake answers at once."""
    if path.suffix != '.png' or not path.parent.is_dir():
        raise UserError(f'{path} is no place for a .png file')
    new_figure(1, 1)


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, matplotlib's; UserError where that is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("drawing needs matplotlib: pip install 'vitjax[figures]'") from None
    return Figure(figsize=(width, height), layout='constrained')


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure as PNG; UserError where it cannot."""
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be written: {error}') from error
