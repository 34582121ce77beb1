"""Pictures that commands write, drawn with matplotlib (extra 'figures')."""

from pathlib import Path
from typing import Any

from vitjax.errors import UserError


def check_picture(path: Path) -> None:
    """UserError if no picture can be written to a path; for a check before long computations."""
    if path.suffix != '.png' or not path.parent.is_dir():
        raise UserError(f'{path} must end with .png and be in an existing folder')
    new_figure(1, 1)


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches; UserError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("drawing needs matplotlib: pip install 'vitjax[figures]'") from None
    return Figure(figsize=(width, height), layout='constrained')


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure as PNG; UserError if writing fails."""
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be written: {error}') from error
