"""The recipes that are part of vitjax: `vitjax:digits` is `configs/digits.py` of the repository."""

import ast
from pathlib import Path

from vitjax.errors import UserError, unknown


def recipes() -> dict[str, Path]:
    """Name of each recipe, such as 'digits' or 'translation/phrasebook', and its file, sorted by name.

    Raises:
      UserError: the installation has no recipes.
    """
    package = Path(__file__).parent.parent
    # Installed as `vitjax.configs`; in a checkout of the repository, beside the package.
    for folder in (package / 'configs', package.parent / 'configs'):
        files = sorted(folder.rglob('[!_]*.py'))
        if files:
            return {path.relative_to(folder).with_suffix('').as_posix(): path for path in files}
    raise UserError(f'the installation in {package} has no recipes')


def recipe_path(name: str) -> Path:
    """The file of a recipe; UserError with the nearest names if there is no such recipe."""
    found = recipes()
    if name not in found:
        raise unknown('recipe of vitjax', name, found)
    return found[name]


def summary(path: Path) -> str:
    """The first line of a recipe's docstring, read without running the recipe."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return docstring.partition('\n')[0]
