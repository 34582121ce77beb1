"""Files and folders on the local disk or in a bucket: paths, reading small files, atomic writes.

A path that starts with gs:// is in a bucket of Google Cloud Storage. It has the methods of `pathlib.Path`.
Where buckets need other code, it is in this file, or the caller checks `is_local`.
"""

import contextlib
import functools
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vitjax.errors import RunError, UserError, one_line

_BUCKETS = 'gs://'
_PATIENCE = 20  # seconds until a bucket counts as unreachable; gcsfs itself would retry for longer
_AT_ONCE = 8  # files copied in parallel: a single copy does not use the network's full bandwidth

logger = logging.getLogger(__name__)


def to_path(text: str | Path) -> Path:
    """The path of a file or folder, on the local disk or in a bucket.

    Raises UserError if the path is empty, if gcsfs is not installed, or if the bucket cannot be read.
    """
    if not str(text):
        raise UserError('a path is empty')
    scheme, mark, rest = str(text).partition('://')
    if not mark or '/' in scheme:
        return Path(text)
    bucket = rest.partition('/')[0]
    if scheme != 'gs' or not bucket:
        raise UserError(f'{text}: a path is of a file or folder here, or gs://BUCKET/...')
    _check_bucket(bucket)
    from etils import epath

    return epath.Path(text)


def is_local(path: Path) -> bool:
    """Whether a path is on the local file system, not in a bucket."""
    return isinstance(path, Path)


def check_place(folder: Path) -> None:
    """Raises UserError if the folder cannot exist because it, or one of its parents, is a file."""
    if is_local(folder):
        for path in (folder, *folder.parents):
            if path.exists() and not path.is_dir():
                raise UserError(f'{folder} cannot be a folder: {path} is a file')


def subfolders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder; empty if the folder does not exist."""
    if not folder.is_dir():
        return []
    if not is_local(folder):
        entries = _filesystem().ls(str(folder), detail=True)
        folders = (entry['name'] for entry in entries if entry['type'] == 'directory')
        return sorted(name.rpartition('/')[2] for name in folders)
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def files_below(folder: Path) -> list[str]:
    """Sorted paths of all files in a folder, at any depth; follows symbolic links."""
    if not is_local(folder):
        return sorted(_BUCKETS + name for name in _filesystem().find(str(folder)))
    return sorted(
        os.path.join(parent, file)
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
    )


def user_cache() -> Path:
    """The user's cache folder of vitjax; RuntimeError if the user has no home folder."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'vitjax'


def copy_here(path: Path, target: Path) -> None:
    """Copies a file from a bucket to the local disk; RunError if reading or writing fails."""
    try:
        _filesystem().get_file(str(path), str(target))
    except Exception as error:  # a bucket's client raises nearly anything
        raise RunError(f'cannot copy {path} to {target}: {one_line(error)}') from error


def kept_copy(folder: Path, needed: Collection[str], leave_out: Collection[str]) -> Path:
    """Copies the files of a folder in a bucket to the user's cache, and returns the local folder.

    Files in `leave_out` are not copied. A local file with the size and modification time of the object is
    not copied again. A lock makes processes of one machine wait for each other. Raises RunError if a file
    in `needed` is missing, or if reading or writing fails.
    """
    from filelock import FileLock

    try:
        here = user_cache() / 'buckets' / str(folder).removeprefix(_BUCKETS)
        here.mkdir(parents=True, exist_ok=True)
        with FileLock(here / '.lock'):
            listed = _filesystem().ls(str(folder), detail=True)
            files = (entry for entry in listed if entry['type'] == 'file')
            entries = {entry['name'].rpartition('/')[2]: entry for entry in files}
            if missing := sorted(set(needed) - set(entries)):
                raise RunError(f'{folder / missing[0]}: no such file')
            names = (
                set(entries) - set(leave_out) - {''}
            )  # '' is the object that the console makes for a folder
            new = [name for name in names if not _is_copy(here / name, entries[name])]
            if new:
                size = sum(entries[name]['size'] for name in new)
                logger.info('copying %.3g GB of %s to %s', size / 1e9, folder, here)
            with ThreadPoolExecutor(
                _AT_ONCE
            ) as pool:  # a failure cancels the copies that have not started
                list(
                    pool.map(lambda name: _copy_atomically(folder / name, entries[name], here), new)
                )
    except RunError:
        raise
    except Exception as error:  # a bucket's client raises nearly anything
        raise RunError(f'cannot copy {folder} here: {one_line(error)}') from error
    return here


def _is_copy(file: Path, entry: dict[str, Any]) -> bool:
    """Whether a local file has the size and modification time of the object in the bucket."""
    if not file.exists():
        return False
    state = file.stat()
    return (state.st_size, int(state.st_mtime)) == (entry['size'], _seconds(entry))


def _copy_atomically(path: Path, entry: dict[str, Any], folder: Path) -> None:
    """Copies an object into a local folder. The file gets its name only when it is complete."""
    unfinished = folder / (path.name + '.tmp')
    copy_here(path, unfinished)
    os.utime(unfinished, (_seconds(entry),) * 2)
    os.replace(unfinished, folder / path.name)


def _seconds(entry: dict[str, Any]) -> int:
    return int(entry['mtime'].timestamp())


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file atomically and syncs it to disk; makes its folder. RunError if writing fails."""
    content = content.encode() if isinstance(content, str) else content
    try:
        if not is_local(path):
            path.write_bytes(content)  # an object becomes visible only when it is complete
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + '.tmp')
        with unfinished.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except Exception as error:  # a bucket's client raises nearly anything
        raise RunError(f'cannot write {path}: {one_line(error)}') from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path for a file or folder, and renames it to `path` if the block succeeds.

    Raises UserError if `path` is in a bucket, or exists and is not an empty folder; RunError if writing
    fails. The temporary path is removed in any case.
    """
    if not is_local(path):
        raise UserError(f'{path}: choose a folder here; gcloud storage cp -r copies it to a bucket')
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f'{path} exists and is not an empty folder; choose another place')
    if path.exists() and path.samefile(Path.cwd()):  # it would be replaced while in use
        raise UserError(f'{path} is the folder that you are in; choose another place')
    check_place(path.parent)
    unfinished = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise RunError(f'cannot write {path}: {one_line(error)}') from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The content of a JSON file in a run; UserError if the file is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f'{path.parent} is not the folder of a run: it has no {path.name}'
        ) from None
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}') from error


@functools.cache
def _check_bucket(name: str) -> None:
    """Raises UserError at once, rather than at the end of a run, if a bucket cannot be read."""
    # Otherwise epath imports TensorFlow, if it is installed, to read buckets.
    os.environ.setdefault('EPATH_USE_TF', 'false')
    try:
        _filesystem().call('GET', 'b/{}/o', name, maxResults=1, timeout=_PATIENCE)
        return
    except ImportError:
        reason = "install what reads buckets: pip install 'vitjax[gcs]'"
    except FileNotFoundError:
        reason = 'no such bucket'
    except TimeoutError:
        reason = f'no answer in {_PATIENCE} seconds'
    except Exception as error:  # network, credentials or permissions
        reason = f'{one_line(error)}; gcloud auth application-default login gives credentials'
    raise UserError(f'{_BUCKETS}{name}: {reason}')


@functools.cache
def _filesystem() -> Any:
    """The fsspec file system of buckets; epath uses the same one."""
    import fsspec

    # A cached listing would not show files that TensorStore and other hosts write.
    fsspec.config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)
    for name in ('gcsfs', 'google.auth'):  # they log the errors that they also raise
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return fsspec.filesystem('gcs')


def _sync_folder(folder: Path) -> None:
    """Syncs the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
