"""The folder of a data set's files."""

from pathlib import Path

from vitjax.errors import UserError
from vitjax.files import to_path


def data_folder(path: str | None, name: str, content: str) -> Path:
    """`config.data.path` as a path.

    Args:
      path: of a local folder or a bucket.
      name: of the data set, for messages.
      content: of the folder, for messages.

    Raises:
      UserError: `path` is None, or there is no such folder.
    """
    if path is None:
        raise UserError(f'data set {name!r} needs config.data.path, {content}')
    folder = to_path(path)
    if not folder.is_dir():
        raise UserError(f'no folder {path!r} (config.data.path)')
    return folder
