"""Runs of one recipe over values of its keys and over seeds, each resumable, and a table of all."""

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.config import read_config
from vitjax.errors import RunError, UserError
from vitjax.files import write_atomically
from vitjax.training.loop import changes
from vitjax.training.records import read_records

Row = dict[str, Any]
# Beside a run: the seconds that it took so far and, once it is finished, its metrics.
STATE = 'experiment.json'


def grid(values: Mapping[str, Sequence[str]], seeds: Iterable[int]) -> list[dict[str, str]]:
    """The overrides of each run: every combination of the values, with every seed."""
    combinations = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]
    return [chosen | {'seed': str(seed)} for chosen in combinations for seed in seeds]


def run_once(
    recipe: str,
    workdir: Path,
    overrides: Mapping[str, str],
    train: Callable[[str, Path, Mapping[str, str]], None],
) -> Row:
    """Trains a run, unless it is finished; one that was stopped goes on.

    Args:
      recipe: as `--config` takes it.
      workdir: of the run.
      overrides: of its config.
      train: trains a recipe in a folder with overrides, to its end.

    Returns:
      The metrics of its last evaluations, those of an entry of `config.evals` as 'NAME/METRIC', and the
      wall-clock `seconds` of the training.

    Raises:
      UserError: the folder holds another run, with other values.
    """
    if differences := changes(workdir / 'config.json', read_config(recipe, overrides)):
        raise UserError(f'{workdir} holds another run ({differences[0]}); take another --output')
    state = workdir / STATE
    known = json.loads(state.read_text()) if state.exists() else {'seconds': 0.0}
    if 'metrics' not in known:
        start = time.monotonic()
        try:
            train(recipe, workdir, overrides)
            known['metrics'] = last_metrics(workdir)
        finally:
            known['seconds'] += round(time.monotonic() - start, 1)
            if workdir.is_dir():
                write_atomically(state, json.dumps(known) + '\n')
    return known['metrics'] | {'seconds': known['seconds']}


def last_metrics(workdir: Path) -> Row:
    """What the last evaluations of a run measured."""
    split = json.loads((workdir / 'config.json').read_text())['data']['eval_split']
    metrics: Row = {}
    for row in read_records(workdir / 'metrics.jsonl'):
        name = row['split']
        values = {k: v for k, v in row.items() if k not in ('step', 'split', 'examples')}
        if name == split and 'examples' in row:
            metrics |= values
        elif name not in (split, 'train', 'checkpoint', 'end'):
            metrics |= {f'{name}/{key}': value for key, value in values.items()}
    return metrics


def train_in_process(recipe: str, workdir: Path, overrides: Mapping[str, str]) -> None:
    """Trains by `vitjax train` in a process of its own; RunError with the last line that it printed."""
    words = [f'--config.{key}={value}' for key, value in overrides.items()]
    command = [
        sys.executable,
        '-m',
        'vitjax',
        'train',
        '--config',
        recipe,
        '--workdir',
        str(workdir),
    ]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f'exit code {done.returncode}']
        raise RunError(lines[-1])


def sweep(
    recipe: str,
    output: Path,
    values: Mapping[str, Sequence[str]],
    *,
    seeds: Iterable[int] = (0,),
    overrides: Mapping[str, str] | None = None,
    jobs: int = 1,
    report: Callable[[Row], None] = lambda row: None,
) -> tuple[list[Row], list[str]]:
    """Trains a recipe with every combination of values and seeds, each in a folder of `output/runs`.

    Args:
      recipe: as `--config` takes it.
      output: folder of the sweep.
      values: config key -> its values, as texts.
      seeds: of the repetitions.
      overrides: config key -> value, for all runs.
      jobs: runs at the same time, each in a process of its own.
      report: called with each row when its run is finished.

    Returns:
      A row a run, the values of the keys, its seed and its metrics; and a line for each run that failed.

    Raises:
      UserError: a value that the config refuses, before anything is trained.
    """
    runs = []
    for chosen in grid(values, seeds):
        words = [f'{key.rpartition(".")[2]}={value}' for key, value in chosen.items()]
        name = re.sub(r'[^\w.=+,-]', '-', '_'.join(words))
        asked = {**(overrides or {}), **chosen}
        read_config(recipe, asked)  # a mistake in the last run is told before the first one
        runs.append((chosen, output / 'runs' / name, asked))
    rows: list[Row | None] = [None] * len(runs)
    failures = []

    def work(index: int) -> None:
        chosen, workdir, asked = runs[index]
        try:
            found = run_once(recipe, workdir, asked, train_in_process)
        except (UserError, RunError) as error:
            failures.append(f'{workdir}: {error}')
            return
        rows[index] = chosen | {'seed': int(chosen['seed'])} | found
        report(rows[index])

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for _ in pool.map(work, range(len(runs))):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [row for row in rows if row is not None], failures


def cells(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple, list[Row]]:
    """The rows of each cell of a sweep, in the order in which the cells first appear."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in by), []).append(row)
    return groups


def mean_and_spread(rows: Iterable[Row], value: str) -> tuple[float, float]:
    """Mean and standard deviation (n - 1; 0 for one row) over rows that differ in their seed.

    Not a number where a row has None.
    """
    values = [np.nan if row.get(value) is None else row[value] for row in rows]
    # Equal values have no spread, not even by rounding.
    spread = np.std(values, ddof=1) if len(set(values)) > 1 else 0.0
    return float(np.mean(values)), float(spread)


def table(results: Mapping[str, Any]) -> str:
    """Markdown: a line a cell, with mean and standard deviation over its seeds.

    Args:
      results: 'by', the keys that name a cell; 'values', those whose mean is shown; and 'rows'.
    """
    by, values = results['by'], results['values']
    lines = [
        f'| {" | ".join([*by, *values, "seeds"])} |',
        f'|{"---|" * (len(by) + len(values) + 1)}',
    ]
    for cell, rows in cells(results['rows'], by).items():
        means = []
        for value in values:
            mean, spread = mean_and_spread(rows, value)
            known = f'{mean:.4g} ± {spread:.2g}' if spread else f'{mean:.4g}'
            means.append('-' if np.isnan(mean) else known)
        lines.append(f'| {" | ".join([*map(as_text, cell), *means, str(len(rows))])} |')
    return '\n'.join(lines) + '\n'


def as_text(value: Any) -> str:
    """A value as tables show it."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)
