"""What the experiments share: their command line, runs of `vitjax train`, results, table and figure.

An experiment is a folder with a `run.py`, which says what it varies and draws what came out, and a
`README.md` with the question, the table and the figure. It trains with the library's own command
only, from a recipe, so that each of its runs can be started alone and goes on after a stop.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import shlex
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from matplotlib.figure import Figure

import vitjax
from vitjax import cli
from vitjax.errors import UserError
from vitjax.files import write_atomically
from vitjax.runtime.memory import tune_malloc
from vitjax.training.sweep import Row, as_text, cells, mean_and_spread, run_once, table

__all__ = ['QUICK', 'Options', 'cells', 'main', 'mean_and_spread', 'table', 'train', 'write_images']

LENGTHS = ('steps', 'epochs', 'examples')
# What makes a run of `--quick` short.
QUICK = {'batch_size': 32, 'steps': 20, 'schedule.warmup': 2}


@dataclasses.dataclass(frozen=True)
class Options:
    """What was asked for on the command line.

    Attributes:
      quick: a small part of the sweep, in less than a minute.
      output: folder of the results; the runs lie in its subfolder `runs`.
      seeds: of the repetitions of each cell of the sweep.
      overrides: `--config.KEY=VALUE`, for every run.
    """

    quick: bool
    output: Path
    seeds: range
    overrides: tuple[str, ...]


def main(
    file: str,
    rows: Callable[[Options], Iterable[Row]],
    draw: Callable[[list[Row], Options], Figure],
    *,
    by: Sequence[str],
    values: Sequence[str],
    seeds: int = 3,
) -> None:
    """Runs an experiment: `results.json`, `table.md` and `figure.png` in the output folder.

    Args:
      file: `__file__` of its `run.py`.
      rows: makes what was measured, a dict of plain values for each run (or computation).
      draw: the figure of all rows.
      by: the keys that name a cell of the sweep; its rows differ in their seed.
      values: the keys whose mean over the seeds goes into the table.
      seeds: how many there are, unless the command line says so.
    """
    folder = Path(file).resolve().parent
    parser = cli.Parser(
        description=sys.modules['__main__'].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Any value of the recipe can be set for all runs: --config.KEY=VALUE',
    )
    parser.add_argument('--quick', action='store_true', help='a small part, in under a minute')
    parser.add_argument('--output', type=Path, help=f'default runs/{folder.name}[_quick]')
    parser.add_argument('--seeds', type=int, default=seeds, help=f'default {seeds}')
    args, overrides = parser.parse_known_args()
    if unknown := [word for word in overrides if not word.startswith('--config.')]:
        parser.error(f'unknown arguments: {" ".join(unknown)} (write --config.KEY=VALUE)')
    if args.seeds < 1 or any(word.startswith('--config.seed=') for word in overrides):
        parser.error('--seeds N takes the seeds 0 to N - 1, with N at least 1')
    tune_malloc()
    output = args.output or Path('runs') / f'{folder.name}{"_quick" * args.quick}'
    output.mkdir(parents=True, exist_ok=True)
    options = Options(args.quick, output, range(args.seeds), tuple(overrides))

    start = time.monotonic()
    done = []
    try:
        for row in rows(options):
            done.append(row)
            shown = '  '.join(f'{key} {as_text(value)}' for key, value in row.items())
            print(f'{folder.name}: {shown}', file=sys.stderr, flush=True)
    except UserError as error:
        parser.error(str(error))
    results = {
        'command': shlex.join(['python', f'experiments/{folder.name}/run.py', *sys.argv[1:]]),
        'date': time.strftime('%Y-%m-%d'),
        'seconds': round(time.monotonic() - start),
        'hardware': f'{jax.devices()[0].device_kind}, {os.cpu_count()} cores of {_processor()}',
        'versions': {
            'python': platform.python_version(),
            **{module.__name__: module.__version__ for module in (jax, flax, vitjax)},
        },
        'by': list(by),
        'values': list(values),
        'rows': done,
    }
    write_atomically(output / 'results.json', json.dumps(results, indent=1) + '\n')
    write_atomically(output / 'table.md', table(results))
    draw(done, options).savefig(output / 'figure.png', dpi=110)
    print(table(results))
    print(f'{output}/results.json  {output}/table.md  {output}/figure.png')


def train(
    options: Options, recipe: Path, name: str, seed: int, changes: Mapping[str, Any]
) -> tuple[Row, Path]:
    """Runs `vitjax train` with a recipe, some of whose keys are changed.

    A run that was stopped goes on; one that is finished is not run again. Raises UserError if it was
    another run, with other values.

    Returns the metrics of the last evaluation and the wall-clock `seconds` of the command, and the
    run's folder. Exits as the command does if it fails.
    """
    workdir = options.output / 'runs' / f'{name}-{seed}'
    asked = {override.partition('=')[0] for override in options.overrides}
    if asked & {f'--config.{length}' for length in LENGTHS}:  # there can be only one of them
        changes = {key: value for key, value in changes.items() if key not in LENGTHS}
    overrides = {key: str(value) for key, value in (changes | {'seed': seed}).items()}
    for override in options.overrides:
        key, _, value = override.removeprefix('--config.').partition('=')
        overrides[key] = value
    return run_once(str(recipe), workdir, overrides, _train_here), workdir


def _train_here(recipe: str, workdir: Path, overrides: Mapping[str, str]) -> None:
    """Runs `vitjax train` in this process, which keeps what it compiled; exits as it does if it fails."""
    words = [f'--config.{key}={value}' for key, value in overrides.items()]
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
        code = cli.main(['train', '--config', recipe, '--workdir', str(workdir), *words])
    if code:
        sys.exit(code)


def write_images(folder: Path, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes drawn images as the data set `idx`: 'train' and 'test' -> images [N, H, W], labels [N].

    Raises UserError if other images are there already, from which runs may have learned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, prefix in (('train', 'train'), ('test', 't10k')):
        for array, what in zip(parts[part], ('images-idx3', 'labels-idx1'), strict=True):
            header = struct.pack(f'>HBB{array.ndim}I', 0, 8, array.ndim, *array.shape)
            data = header + array.astype(np.uint8).tobytes()
            path = folder / f'{prefix}-{what}-ubyte'
            if path.exists() and path.read_bytes() != data:
                raise UserError(f'{path} holds other images; take another --output')
            path.write_bytes(data)


def _processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path('/proc/cpuinfo')
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor()
