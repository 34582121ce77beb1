"""The command line: `vitjax COMMAND`, one file a command.

A command's module has `add_arguments(parser)` and `run(args) -> exit code`; it imports what it
needs inside `run`, so that `--help` answers at once.
"""

import argparse
import importlib
import logging
import os
import sys
import threading

from vitjax.runtime.compile_cache import keep_compiled
from vitjax.runtime.memory import collect_garbage_rarely, tune_malloc

COMMANDS = {
    'train': 'train a model as a config says, or go on with a run',
    'sweep': 'train a recipe over values and seeds, with a table and a figure',
    'eval': "print the metrics of a run's checkpoint as one JSON line",
    'predict': 'print the most likely labels of images',
    'attend': 'draw where a model looks in images',
    'translate': 'translate texts',
    'convert': 'weights from one layout to another, and to another size',
    'configs': 'list the recipes, or print one to copy it',
    'models': 'list the models with parameters and FLOPs',
    'plan': 'compile a training step for hardware that is not here',
    'bench': 'measure import, compile, step and input time',
}

_WITHOUT_JAX = ('configs', 'models')  # commands that read tables and files only


class Parser(argparse.ArgumentParser):
    """One whose errors are one line, without the usage, which --help shows."""

    def error(self, message: str):
        self.exit(2, f'{self.prog}: error: {message}\n')


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns 0 when done, 2 for a user's mistake, 130 after Ctrl-C, 1 for anything else."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        return 130


def _main(argv: list[str] | None) -> int:
    own_process = argv is None
    if own_process:
        collect_garbage_rarely()
        argv = sys.argv[1:]
        if '--debug' not in argv:
            # What fails in a thread, such as writing a checkpoint, is raised where it is waited for.
            sys.unraisablehook = threading.excepthook = lambda failure: None
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


def _module(name: str):
    return importlib.import_module(f'vitjax.cli.{name}')


def _run(args: argparse.Namespace) -> int:
    """Runs a parsed command; expected failures become one line on stderr."""
    from vitjax.errors import Preempted, RunError, UserError

    logging.basicConfig(format='vitjax: %(message)s', stream=sys.stderr, level=logging.WARNING)
    logging.getLogger('vitjax').setLevel(logging.INFO)
    try:
        return _module(args.command).run(args) or 0
    except BrokenPipeError:  # whoever reads stdout has heard enough
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
        reason = ' '.join(str(error).split()) or 'no message'
        print(
            f'vitjax {args.command}: {type(error).__name__}: {reason[:500]} (--debug shows where)',
            file=sys.stderr,
        )
        return 1


def _config_overrides(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Takes `--config.KEY=VALUE` and `--config.KEY VALUE` out of a command line."""
    overrides, rest = {}, []
    words = iter(words)
    for word in words:
        if not word.startswith('--config.'):
            rest.append(word)
            continue
        key, equals, value = word.removeprefix('--config.').partition('=')
        overrides[key] = value if equals else next(words, '')
    return overrides, rest
