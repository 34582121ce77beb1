"""Files and folders, here or in a bucket: paths, reading small files, writing any whole or not at all.

What starts with gs:// lies in a bucket of Google Cloud Storage. Its paths are used as `pathlib.Path`s are;
what differs is here, and where `is_local` is asked.
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
_PATIENCE = 20  # seconds until a network counts as none; what reads buckets would try longer
_AT_ONCE = 8  # files that are copied at the same time: one alone does not fill a network

logger = logging.getLogger(__name__)


def to_path(text: str | Path) -> Path:
    """The path of a file or folder, be it here or in a bucket.

    Raises UserError for no path at all, and where what reads buckets is not installed, or this bucket
    cannot be read.
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
    """Whether a path is of the file system, not of a bucket."""
    return isinstance(path, Path)


def check_place(folder: Path) -> None:
    """UserError where there can be no such folder, for a file is in its place or in that of one above it."""
    if is_local(folder):
        for path in (folder, *folder.parents):
            if path.exists() and not path.is_dir():
                raise UserError(f'{folder} cannot be a folder: {path} is a file')


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, in order; none if there is no such folder."""
    if not folder.is_dir():
        return []
    if not is_local(folder):
        entries = _filesystem().ls(str(folder), detail=True)
        folders = (entry['name'] for entry in entries if entry['type'] == 'directory')
        return sorted(name.rpartition('/')[2] for name in folders)
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def files_below(folder: Path) -> list[str]:
    """Paths of all files in a folder, at any depth and in order; links are followed."""
    if not is_local(folder):
        return sorted(_BUCKETS + name for name in _filesystem().find(str(folder)))
    return sorted(
        os.path.join(parent, file)
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
    )


def user_cache() -> Path:
    """The user's folder for what can be made or copied again; RuntimeError if there is no home."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'vitjax'


def copy_here(path: Path, target: Path) -> None:
    """Copies a file out of a bucket; RunError if the bucket or the disk does not let it."""
    try:
        _filesystem().get_file(str(path), str(target))
    except Exception as error:  # a bucket's client raises nearly anything
        raise RunError(f'cannot copy {path} to {target}: {_reason(error)}') from error


def kept_copy(folder: Path, needed: Collection[str], leave_out: Collection[str]) -> Path:
    """A folder in the user's cache that has the files of a folder in a bucket, but those to leave out.

    What is there already, of the same size and time, is not copied again. Processes of one machine
    wait for each other. RunError if a file that is needed is missing, or the bucket or the disk does
    not let it.
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
            names = set(entries) - set(leave_out) - {''}  # '' is the folder, if a console made it
            new = [name for name in names if not _is_copy(here / name, entries[name])]
            if new:
                size = sum(entries[name]['size'] for name in new)
                logger.info('copying %.3g GB of %s to %s', size / 1e9, folder, here)
            with ThreadPoolExecutor(_AT_ONCE) as pool:  # one that fails cancels those that wait
                list(pool.map(lambda name: _copy_whole(folder / name, entries[name], here), new))
    except RunError:
        raise
    except Exception as error:  # a bucket's client raises nearly anything
        raise RunError(f'cannot copy {folder} here: {_reason(error)}') from error
    return here


def _is_copy(file: Path, entry: dict[str, Any]) -> bool:
    if not file.exists():
        return False
    state = file.stat()
    return (state.st_size, int(state.st_mtime)) == (entry['size'], _seconds(entry))


def _copy_whole(path: Path, entry: dict[str, Any], folder: Path) -> None:
    unfinished = folder / (path.name + '.tmp')
    copy_here(path, unfinished)
    os.utime(unfinished, (_seconds(entry),) * 2)
    os.replace(unfinished, folder / path.name)


def _seconds(entry: dict[str, Any]) -> int:
    return int(entry['mtime'].timestamp())


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file, and its folder if need be, onto the disk; RunError if that does not take it."""
    content = content.encode() if isinstance(content, str) else content
    try:
        if not is_local(path):
            path.write_bytes(content)  # an object appears once it is whole
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
        raise RunError(f'cannot write {path}: {_reason(error)}') from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A place to write a file or folder to, which becomes `path` when nothing went wrong.

    Raises UserError where there is something already (but an empty folder) and in a bucket, and
    RunError if the disk does not take it; then nothing is left behind.
    """
    if not is_local(path):
        raise UserError(f'{path}: choose a folder here; gcloud storage cp -r copies it to a bucket')
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f'{path} exists and is not an empty folder; choose another place')
    if path.exists() and path.samefile(Path.cwd()):  # which would be replaced under one's feet
        raise UserError(f'{path} is the folder that you are in; choose another place')
    check_place(path.parent)
    unfinished = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise RunError(f'cannot write {path}: {_reason(error)}') from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds; UserError if it is missing or damaged."""
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
    """UserError, within seconds and not at the end of a run, where a bucket cannot be read."""
    # TensorFlow, where it is installed, would be loaded to read buckets.
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
    except Exception as error:  # of the network, of credentials, of permissions
        reason = f'{_reason(error)}; gcloud auth application-default login gives credentials'
    raise UserError(f'{_BUCKETS}{name}: {reason}')


@functools.cache
def _filesystem() -> Any:
    """What lists buckets, behind epath, too."""
    import fsspec

    # A listing that is kept would not show what TensorStore and other hosts write.
    fsspec.config.conf.setdefault('gcs', {}).setdefault('use_listings_cache', False)
    for name in ('gcsfs', 'google.auth'):  # they tell what they also raise
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return fsspec.filesystem('gcs')


def _sync_folder(folder: Path) -> None:
    """Returns once the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _reason(error: Exception) -> str:
    """What went wrong, on one line."""
    return getattr(error, 'strerror', None) or one_line(error) or repr(error)
