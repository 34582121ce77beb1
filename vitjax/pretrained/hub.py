"""Weights that lie elsewhere: on the Hugging Face Hub, or in its cache, and in buckets.

Files are downloaded and nothing is executed: only weights, safetensors before others, and the texts
beside them that tell how to use them. Set HF_HUB_OFFLINE=1 to look at nothing but the Hub's cache.
"""

import contextlib
import fnmatch
import glob
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitjax.errors import UserError, one_line
from vitjax.files import copy_here, files_below, is_local

PREFIX = 'hf:'
_PATIENCE = 10.0  # seconds until a Hub that does not answer counts as out of reach

# Kinds of weights, best first; of the first kind that a repository has, all files are taken.
_WEIGHTS = (
    ('model.safetensors', 'model-*-of-*.safetensors', 'model.safetensors.index.json'),
    ('*.safetensors',),
    ('*.npz',),
    ('pytorch_model.bin', 'pytorch_model-*-of-*.bin', 'pytorch_model.bin.index.json'),
    ('*.pth', '*.pt', '*.bin'),
)
_BESIDE = (
    *('config.json', 'preprocessor_config.json', 'generation_config.json', 'tokenizer_config.json'),
    *('preprocess.json', 'labels.json', 'origin.json', 'text.json', 'vocab.json'),
    *('*.spm', '*.model'),
)


def snapshot(source: str) -> Path:
    """The folder with the files of `hf:owner/name[@revision]` that are needed.

    They are downloaded where the cache of huggingface_hub has them not. Where the Hub cannot be reached,
    or is not to be, the cache is all there is. Files may be links within it.

    Raises:
      UserError: huggingface_hub is not installed; no such repository or revision; the Hub cannot be
        reached, and the cache does not have it; no weights; or files that lead out of the cache.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"{source} takes huggingface_hub: pip install 'vitjax[hub]'") from error
    repository, _, revision = source.removeprefix(PREFIX).partition('@')
    which = {'repo_id': repository, 'revision': revision or None}
    logging.getLogger('huggingface_hub').setLevel(logging.ERROR)  # its warnings are our errors
    try:
        if repository.count('/') != 1:
            raise ValueError('say hf:owner/name or hf:owner/name@revision')
        # Asked once: what lists the files alone asks six times, which takes 20 s where there is no Hub.
        about = huggingface_hub.HfApi().model_info(**which, timeout=_PATIENCE)
        files = [file.rfilename for file in about.siblings]
    except (ValueError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(f'{source}: {one_line(error)}') from error
    except Exception as error:  # of whatever keeps one from the Hub
        folder = _cached(source, which, error)
        wanted([path.relative_to(folder).as_posix() for path in folder.rglob('*')], source)
    else:
        patterns = [glob.escape(file) for file in wanted(files, source)]
        try:
            folder = Path(huggingface_hub.snapshot_download(**which, allow_patterns=patterns))
        except Exception as error:
            raise UserError(f'{source} cannot be downloaded: {one_line(error)}') from error
    _check_links(folder, source)
    return folder


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A file or folder where it can be read: a copy of what lies in a bucket, but for runs.

    Of a folder what is needed is copied, of a file what lies beside it too. The copy is gone at the end,
    and errors do not name it but the bucket.
    """
    if is_local(path) or (path / 'checkpoints').exists():
        yield path
        return
    folder = path if path.is_dir() else path.parent
    if folder == path:
        listed = [file.removeprefix(f'{folder}/') for file in files_below(folder)]
        files = wanted(listed, str(path))
    else:
        # Not a listing: Google's buckets have tens of thousands of files in a folder.
        beside = [name for name in _BESIDE if '*' not in name and (folder / name).exists()]
        files = [path.name, *beside]
    with tempfile.TemporaryDirectory() as here:
        for file in files:
            copy_here(folder / file, Path(here, file))
        try:
            yield Path(here, *path.parts[len(folder.parts) :])
        except UserError as error:
            raise UserError(str(error).replace(here, str(folder))) from error


def wanted(files: Iterable[str], source: str) -> list[str]:
    """Which of a repository's files are needed; UserError if there are no weights among them."""
    files = list(files)
    of_a_run = [file for file in files if re.match(r'checkpoints/\d+/model/', file)]
    kinds = [_matching(files, patterns) for patterns in _WEIGHTS]
    weights = next(filter(None, [of_a_run, *kinds]), None)
    if not weights:
        raise UserError(
            f'{source} has no weights that could be read, but {", ".join(sorted(files)[:5]) or "nothing"}'
        )
    return weights + _matching(files, _BESIDE)


def _matching(files: list[str], patterns: Iterable[str]) -> list[str]:
    """Those in the repository's own folder that match a pattern."""
    top = [file for file in files if '/' not in file]
    return [file for file in top if any(fnmatch.fnmatchcase(file, p) for p in patterns)]


def _cached(source: str, which: dict[str, str | None], failure: Exception) -> Path:
    """The folder of a repository in the cache."""
    import huggingface_hub

    try:
        # No pattern, no file that it would miss: which files there are is ours to judge.
        return Path(
            huggingface_hub.snapshot_download(**which, local_files_only=True, allow_patterns=[])
        )
    except Exception as error:
        raise UserError(
            f'{source} is not in the cache, and the Hub cannot be asked: {one_line(failure)}'
        ) from error


def _check_links(folder: Path, source: str) -> None:
    """UserError if the folder, or a link in it, leads out of the repository's part of the cache."""
    root = folder.parent.parent
    for path in (folder, *folder.rglob('*')):
        if folder.parent.name != 'snapshots' or not path.resolve().is_relative_to(root.resolve()):
            raise UserError(f'{source}: {path} leads out of the cache; delete {root}')
