"""Names to objects: what a config names is a built-in short name or an import path 'package.module:Attr'.

Built-in names are keys of tables, one for each kind. An import path names anything that can be imported,
so that code kept in another repository is named like vitjax's own. `find` is the only way from a name to an
object; it checks the kind of what it finds before anything is called.
"""

import contextlib
import contextvars
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import logging
import re
import subprocess
import sys
import sysconfig
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vitjax.errors import UserError, one_line, unknown

# Kind -> 'module:TABLE', a dict from built-in name to object. Imported when first asked for.
_TABLES = {
    'model': 'vitjax.models.registry:MODELS',
    'task': 'vitjax.tasks:TASKS',
    'data': 'vitjax.data.sources:SOURCES',
    'augment': 'vitjax.data.transforms:AUGMENTS',
    'optimizer': 'vitjax.training.optimizers:OPTIMIZERS',
    'schedule': 'vitjax.training.schedules:SCHEDULES',
    'evaluator': 'vitjax.evaluation:EVALUATORS',
    'callback': 'vitjax.callbacks:CALLBACKS',
}
# Kind -> what an object of this kind is, for messages.
_DESCRIPTIONS = {
    'model': 'a Flax Linen module class, or a function that returns a module',
    'task': 'a subclass of vitjax.Task',
    'data': 'a function or class that returns {split: source}',
    'augment': 'a callable (example, rng) -> example, or a class of such callables',
    'optimizer': 'a function that returns an optax transformation',
    'schedule': 'a function that returns an optax schedule',
    'evaluator': 'a callable (event) -> {name: number}, or a class of such callables',
    'callback': 'a callable (event), or a class of such callables',
}
_KIND_WORDS = {'data': 'data set'}
_IMPORT_PATH = re.compile(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*')

logger = logging.getLogger(__name__)

# Why code that is not vitjax's may not be imported at the moment; None: it may.
_refused: contextvars.ContextVar[str | None] = contextvars.ContextVar('refused', default=None)


@dataclasses.dataclass(frozen=True)
class _Origin:
    """Where a run's code was when the run was trained: folder, git commit, and the run."""

    folder: str
    commit: str | None
    run: str


_origins: dict[str, _Origin] = {}  # top-level module -> where it was


def names(kind: str) -> Mapping[str, Any]:
    """The built-in names of a kind, each with its object."""
    module, _, table = _TABLES[kind].partition(':')
    return getattr(importlib.import_module(module), table)


def is_import_path(name: Any) -> bool:
    """Whether a name is written as an import path; 'tfds:mnist' is a built-in data set."""
    return isinstance(name, str) and bool(_IMPORT_PATH.fullmatch(name)) and name[:5] != 'tfds:'


def find(kind: str, name: Any) -> Callable[..., Any]:
    """The object of a built-in name or import path; an object of the kind is returned as it is.

    A built-in name that ends with a colon, such as 'tfds:', is a family: 'tfds:mnist' is its object with
    'mnist' as the first argument.

    Raises:
      UserError: an unknown name, a module or attribute that is missing, a module that fails while it is
        imported, an object of another kind, or code that may not be imported, see `refuse_code`.
    """
    if not isinstance(name, str):
        if not callable(name):
            raise unknown(_KIND_WORDS.get(kind, kind), str(name), names(kind))
        _check_kind(kind, name, repr(name))
        return name
    if is_import_path(name):
        found = _import(kind, name)
        _check_kind(kind, found, repr(name))
        return found
    table = names(kind)
    family, colon, member = name.partition(':')
    if colon and family + colon in table and member:
        return functools.partial(table[family + colon], member)
    if name not in table:
        known = [f'{key}NAME' if key.endswith(':') else key for key in table]
        raise unknown(_KIND_WORDS.get(kind, kind), name, known)
    return table[name]


def call(target: Callable[..., Any], values: Mapping[str, Any], **offered: Any) -> Any:
    """Calls a target with values, and with those of the offered arguments that it accepts."""
    accepted = parameters(target)
    return target(**values, **{name: x for name, x in offered.items() if name in accepted})


def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a callable that can be given by name."""
    try:
        found = inspect.signature(target).parameters
    except (TypeError, ValueError):  # some functions of C have no signature
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in found.items() if parameter.kind in kinds}


def call_arguments(kind: str, found: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters with which a function of the kind is called; of a class, none are known."""
    if kind not in _POSITIONAL or isinstance(_function(found), type):
        return ()
    return tuple(inspect.signature(found).parameters)[: _POSITIONAL[kind]]


def bind(kind: str, name: Any, values: Mapping[str, Any]) -> Callable[..., Any]:
    """What is called many times: an instance of a class, or a function with its keys."""
    found = find(kind, name)
    if isinstance(_function(found), type):
        return found(**values)
    return functools.partial(found, **values) if values else found


@contextlib.contextmanager
def refuse_code(source: str) -> Iterator[None]:
    """Within it, only vitjax's own code is imported: `source` is a Hub repository or a bucket."""
    token = _refused.set(source)
    try:
        yield
    finally:
        _refused.reset(token)


def add_folder(folder: Path) -> None:
    """Lets import paths be found in a folder; what is installed comes first."""
    text = str(folder.resolve())
    if text not in sys.path and not (folder / 'checkpoints').is_dir():  # a run holds no code
        sys.path.append(text)


def describe_code(paths: Mapping[str, str]) -> dict[str, Any]:
    """What `code.json` of a run stores: where the code is that a config names.

    Args:
      paths: config key -> import path.

    Returns:
      'names', the same mapping, and 'modules': top-level module -> folder, file, and git commit with a
      '-dirty' if there are changes that are not committed.
    """
    modules = {}
    for path in paths.values():
        top = path.partition(':')[0].partition('.')[0]
        module = sys.modules.get(top)
        if module is None or top == 'vitjax':
            continue
        # A namespace package has no file, but folders.
        file = getattr(module, '__file__', None) or next(
            iter(getattr(module, '__path__', [])), None
        )
        if file is None:
            continue
        file = Path(file).resolve()
        folder = file.parent.parent if file.name == '__init__.py' else file.parent
        modules[top] = {'folder': str(folder), 'file': str(file), 'commit': _commit(folder)}
    return {'names': dict(paths), 'modules': modules}


def remember_code(code: Mapping[str, Any], run: Path) -> None:
    """Lets `find` use the folders of a run's `code.json` for modules that cannot be imported otherwise.

    A folder inside the run itself is left out.
    """
    for top, entry in code.get('modules', {}).items():
        folder = Path(entry['folder'])
        if run.resolve() not in (folder, *folder.parents):
            _origins[top] = _Origin(str(folder), entry.get('commit'), str(run))


def _commit(folder: Path) -> str | None:
    """The git commit of a folder; None where there is none."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ['git', '-C', str(folder), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git('rev-parse', 'HEAD')
    # Where git ignores a folder, as an environment inside a repository, the commit is of other files.
    if not commit or git('check-ignore', '-q', str(folder)) is not None:
        return None
    return commit + ('-dirty' if git('status', '--porcelain', '--', '.') else '')


def _import(kind: str, name: str) -> Any:
    path, _, attribute = name.partition(':')
    top = path.partition('.')[0]
    if (source := _refused.get()) is not None and top != 'vitjax':
        raise UserError(
            f'{source} names code that is not part of vitjax, {name!r}; if you trust it, allow it '
            'with allow_code=True (--allow_code)'
        )
    origin = _origins.get(top)
    if origin is not None and importlib.util.find_spec(top) is None:
        add_folder(Path(origin.folder))
    module = _import_module(path, name, origin)
    found = module
    file = getattr(module, '__file__', None)
    if origin is not None and file and Path(origin.folder) not in Path(file).resolve().parents:
        _warn_once(
            f'{top} is imported from {file}; {origin.run} was trained with that in {origin.folder}'
        )
    for part in attribute.split('.'):
        if not hasattr(found, part):
            where = getattr(module, '__file__', None) or path
            raise UserError(f'{name!r}: {where}: {unknown("attribute", part, _public(found))}')
        found = getattr(found, part)
    return found


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning('%s', message)


def _import_module(path: str, name: str, origin: _Origin | None) -> types.ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # The module itself or a package above it, not something that it imports.
        if error.name is None or not f'{path}.'.startswith(f'{error.name}.'):
            raise UserError(f'{name!r}: {_place(error)}') from error
        if origin is not None:
            commit = f' at commit {origin.commit}' if origin.commit else ''
            raise UserError(
                f'no module {error.name!r}, which {origin.run} was trained with: it was in '
                f'{origin.folder}{commit}; install it, or run in a folder that has it'
            ) from error
        raise UserError(
            f'{name!r}: no module {error.name!r}; it must be installed, or be in the current folder '
            f"or the recipe's folder"
        ) from error
    except Exception as error:
        raise UserError(f'{name!r}: {_place(error)}') from error


def own_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost place of an error in code that is neither vitjax's nor of an installed library."""
    libraries = ('site-packages', sysconfig.get_path('stdlib'), str(Path(__file__).parent))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename[0] != '<' and not any(part in frame.filename for part in libraries)
    ]
    return frames[-1] if frames else None


def _place(error: Exception) -> str:
    """File, line and message of an error that was raised while a module was imported."""
    if isinstance(error, SyntaxError):
        return f'{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}'
    frame = own_frame(error)
    if frame is None:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename not in (importlib.__file__, __file__) and frame.filename[0] != '<'
        ]
        frame = frames[-1] if frames else None
    where = f'{frame.filename}, line {frame.lineno}: ' if frame else ''
    return f'{where}{type(error).__name__}: {one_line(str(error), 500)}'


def _public(found: Any) -> list[str]:
    return [name for name in dir(found) if not name.startswith('_')] or dir(found)


def _check_kind(kind: str, found: Any, shown: str) -> None:
    """UserError unless an object can be of the kind; nothing is called."""
    if not callable(found) or not _KINDS[kind](found):
        article = 'an' if kind[0] in 'aeiou' else 'a'
        word = _KIND_WORDS.get(kind, kind)
        raise UserError(f'{shown} is not {article} {word}: it must be {_DESCRIPTIONS[kind]}')


def _is_module(kind: Any) -> bool:
    return isinstance(kind, type) and any(
        base.__name__ == 'Module' and base.__module__.startswith('flax.linen')
        for base in kind.__mro__
    )


def _function(found: Any) -> Any:
    """The function of a `functools.partial`, or what was found."""
    while isinstance(found, functools.partial):
        found = found.func
    return found


def _is_function(found: Any) -> bool:
    """Whether it is a function or class, and not of the standard library, which has none of the kinds."""
    found = _function(found)
    if isinstance(found, types.BuiltinFunctionType):
        return False
    top = (getattr(found, '__module__', None) or '').partition('.')[0]
    return top not in sys.stdlib_module_names


def _is_model(found: Any) -> bool:
    found = _function(found)
    if isinstance(found, type):
        return _is_module(found)
    if not _is_function(found):
        return False
    try:
        returned = typing.get_type_hints(found).get('return')
    except Exception:  # an annotation that cannot be evaluated says nothing
        returned = None
    return (
        returned is None or returned is Any or _is_module(typing.get_origin(returned) or returned)
    )


# Kind -> with how many positional arguments its callables are called.
_POSITIONAL = {'augment': 2, 'evaluator': 1, 'callback': 1}


def _is_task(found: Any) -> bool:
    return isinstance(found, type) and callable(getattr(found, 'loss', None))


def _takes(count: int) -> Callable[[Any], bool]:
    """Predicate: a class of callables, or a callable with at least `count` positional parameters."""

    def takes(found: Any) -> bool:
        if not _is_function(found) or _is_module(found):
            return False
        if isinstance(found, type):
            # Every class can be called; its instances must be callable too.
            return any('__call__' in base.__dict__ for base in found.__mro__ if base is not object)
        try:
            positional = inspect.signature(found).parameters.values()
        except (TypeError, ValueError):
            return False
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        variable = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in positional)
        return variable or sum(p.kind in kinds for p in positional) >= count

    return takes


_KINDS: dict[str, Callable[[Any], bool]] = {
    'model': _is_model,
    'task': _is_task,
    'data': _is_function,
    'optimizer': _is_function,
    'schedule': _is_function,
    **{kind: _takes(count) for kind, count in _POSITIONAL.items()},
}
