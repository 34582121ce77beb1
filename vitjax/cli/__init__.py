"""The command line: `vitjax COMMAND`, one file a command.

The module of a command has `add_arguments(parser)` and `run(args) -> exit code`. It imports libraries inside
`run`, so that `--help` answers at once.
"""

import argparse
import gc
import importlib
import logging
import os
import sys
import threading
from typing import Any, NoReturn

from vitjax.runtime.compile_cache import keep_compiled
from vitjax.runtime.memory import collect_garbage_rarely, tune_malloc

COMMANDS = {
    'train': 'train a model as a config specifies, or resume a run',
    'sweep': 'train a recipe with several values and seeds; makes a table and a figure',
    'eval': "print the metrics of a run's checkpoint as one JSON line",
    'predict': 'print the most likely labels of images',
    'attend': 'draw the attention of a model over images',
    'translate': 'translate texts',
    'convert': 'convert weights to another format or model size',
    'configs': 'list the recipes, or print one to copy it',
    'models': 'list the models with parameters and FLOPs',
    'plan': 'compile a train step for hardware that is not attached',
    'bench': 'measure import, compile, step and input time',
}

_WITHOUT_JAX = ('configs', 'models')  # commands that read tables and files only


class Parser(argparse.ArgumentParser):
    """A parser that prints errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.prog}: error: {message}\n')


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 for success, 2 for a user's mistake, 130 after Ctrl-C,
    143 after SIGTERM, 1 for other failures.
    """
    try:
        return _main(argv)
    except KeyboardInterrupt:
        return 130
    finally:
        if argv is None:
            gc.freeze()  # Python need not search for garbage when it exits: 0.3 s after importing JAX


def _main(argv: list[str] | None) -> int:
    own_process = argv is None
    if own_process:
        collect_garbage_rarely()
        argv = sys.argv[1:]
        if '--debug' not in argv:
            # Errors in threads, as in writing a checkpoint, are raised again where the result is awaited.
            sys.unraisablehook = threading.excepthook = _ignore
    parser = Parser(prog='vitjax', description='From the local filter to the whole image.')
    parser.add_argument('--version', action='store_true', help='print the version')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND')
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=_module(name).__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_argument('--debug', action='store_true', help='show tracebacks')
        _module(name).add_arguments(command)
    args, rest = parser.parse_known_args(argv)
    if args.version:
        import vitjax

        print(vitjax.__version__)
        return 0
    if not args.command:
        parser.print_help(sys.stderr)
        return 2
    args.overrides = {}
    if hasattr(args, 'config'):
        args.overrides, rest = _config_overrides(rest)
    if rest:
        commands.choices[args.command].error(f'unknown arguments: {" ".join(rest)}')
    if own_process and args.command not in _WITHOUT_JAX:
        # `bench` measures compilation, and `plan` compiles for other machines.
        if args.command not in ('bench', 'plan'):
            keep_compiled()
        if args.command != 'plan':
            tune_malloc()  # imports JAX
    return _run(args)


def _ignore(failure: Any) -> None:
    """A hook for unhandled errors that prints nothing."""


def _module(name: str) -> Any:
    return importlib.import_module(f'vitjax.cli.{name}')


def _run(args: argparse.Namespace) -> int:
    """Runs a parsed command; prints errors in one line on stderr, unless `--debug` is given."""
    from vitjax.errors import Preempted, RunError, UserError

    logging.basicConfig(format='vitjax: %(message)s', stream=sys.stderr, level=logging.WARNING)
    logging.getLogger('vitjax').setLevel(logging.INFO)
    try:
        return _module(args.command).run(args) or 0
    except BrokenPipeError:  # the reader of stdout has stopped, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Preempted:
        return 143
    except (UserError, RunError) as error:
        if args.debug:
            raise
        print(f'vitjax {args.command}: error: {error}', file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except Exception as error:
        if args.debug:
            raise
        from vitjax.errors import one_line
        from vitjax.registry import own_frame

        reason = one_line(str(error), 500) if str(error).strip() else 'no message'

        frame = own_frame(error)
        where = [x for x in getattr(error, '__notes__', ()) if x.startswith('in config.')]
        if frame is not None:
            where.append(f'{frame.filename}, line {frame.lineno}')
        where.append('--debug shows more')
        print(
            f'vitjax {args.command}: {type(error).__name__}: {reason} ({"; ".join(where)})',
            file=sys.stderr,
        )
        return 1


def _config_overrides(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Splits a command line into overrides (`--config.KEY=VALUE`, `--config.KEY VALUE`) and the rest."""
    overrides: dict[str, str] = {}
    rest: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if not word.startswith('--config.'):
            rest.append(word)
            continue
        key, equals, value = word.removeprefix('--config.').partition('=')
        overrides[key] = value if equals else next(remaining, '')
    return overrides, rest
