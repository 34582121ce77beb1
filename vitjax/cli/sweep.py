"""Trains a recipe for all combinations of values and seeds; run again, it resumes.

    vitjax sweep --config vitjax:digits --output sweeps/rates \\
        --set optimizer.learning_rate=1e-3,3e-3 --set model.depth=2,4 --seeds 3

Each run has its own folder below OUTPUT/runs, as written by `vitjax train`. At the end, results.json,
table.md (mean and standard deviation over the seeds) and figure.png are written to OUTPUT. Select
hyperparameters on a split other than the one you report: --config.data.eval_split='train[80%:]'.
"""

import argparse
import json
import re
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--config',
        required=True,
        metavar='RECIPE[:ARG]',
        help='vitjax:NAME (see vitjax configs), or a Python file',
    )
    parser.add_argument(
        '--output', required=True, type=Path, metavar='DIR', help='folder of the sweep'
    )
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=V,V...',
        help='values of a key; may be repeated',
    )
    parser.add_argument(
        '--seeds', type=int, default=1, help='number of seeds, which are 0 to SEEDS - 1; default 1'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='number of simultaneous runs, default 1'
    )
    parser.add_argument(
        '--metric', help='metric of the figure; default accuracy, or loss if there is none'
    )


def run(args: argparse.Namespace) -> int:
    from vitjax.errors import UserError
    from vitjax.files import write_atomically
    from vitjax.training import sweep

    if args.seeds < 1 or args.jobs < 1:
        raise UserError('--seeds and --jobs must be at least 1')
    values = {}
    for words in args.set:
        key, equals, text = words.partition('=')
        if not equals or not text:
            raise UserError(f'--set {words}: write KEY=VALUE,VALUE')
        values[key] = split_values(text)
    if 'seed' in values or 'seed' in args.overrides:
        raise UserError('set the seeds with --seeds N, which uses 0 to N - 1')

    def report(row):
        shown = '  '.join(f'{key} {sweep.as_text(value)}' for key, value in row.items())
        print(f'sweep: {shown}', file=sys.stderr, flush=True)

    rows, failures = sweep.sweep(
        args.config,
        args.output,
        values,
        seeds=range(args.seeds),
        overrides=args.overrides,
        jobs=args.jobs,
        report=report,
    )
    for failure in failures:
        print(f'vitjax sweep: error: {failure}', file=sys.stderr)
    if rows:
        known = [key for key in rows[0] if key not in (*values, 'seed')]
        metric = args.metric or next(
            (name for name in ('accuracy', 'loss') if name in known), known[0]
        )
        if metric not in known:
            raise UserError(f'--metric {metric} was not measured; there are {", ".join(known)}')
        results = {'by': list(values), 'values': known, 'rows': rows}
        write_atomically(args.output / 'results.json', json.dumps(results, indent=1) + '\n')
        write_atomically(args.output / 'table.md', sweep.table(results))
        print(sweep.table(results), end='')
        if values:
            _draw(rows, list(values), metric, args.output / 'figure.png')
    return 1 if failures else 0


def split_values(text: str) -> list[str]:
    """Splits at commas outside of brackets: '(1,2),3' -> '(1,2)', '3'."""
    parts = re.findall(r'(?:[^,(\[{]|\([^)]*\)|\[[^\]]*\]|\{[^}]*\})+', text)
    return [part.strip() for part in parts]


def _draw(rows: list[dict], by: list[str], metric: str, path: Path) -> None:
    """Draws the metric over the values of the first key, with a line for each combination of the others."""
    from vitjax.analysis.drawing import new_figure, save_figure
    from vitjax.errors import UserError
    from vitjax.training.sweep import cells, mean_and_spread

    try:
        figure = new_figure(5, 3.6)
    except UserError as error:
        print(f'no figure is drawn: {error}', file=sys.stderr)
        return
    axis = figure.subplots()
    key, *others = by
    for cell, group in cells(rows, others).items():
        points = cells(group, [key])
        means, spreads = zip(
            *(mean_and_spread(point, metric) for point in points.values()), strict=True
        )
        label = ', '.join(f'{k.rpartition(".")[2]} {v}' for k, v in zip(others, cell, strict=True))
        axis.errorbar(
            [value for (value,) in points], means, spreads, fmt='o-', capsize=3, label=label
        )
    axis.set(xlabel=key, ylabel=metric)
    if others:
        axis.legend(frameon=False)
    save_figure(figure, path)
