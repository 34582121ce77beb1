"""Prints the metrics of a run's checkpoint on a split of its data, as one JSON line.

Any value of the run's config can be set: --config.task.sample=1000, --config.precision.compute=float32.
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--workdir', required=True, help="the run's folder")
    parser.add_argument('--step', type=int, help='of the checkpoint; the newest if not given')
    parser.add_argument('--split', help="such as test or train[:10%%]; the config's if not given")
    parser.add_argument('--batch_size', type=int)
    parser.add_argument(
        '--evals',
        metavar='NAME,...',
        help="entries of config.evals to run, instead of the task's metrics",
    )
    parser.add_argument(
        '--allow_code', action='store_true', help='import code that a run in a bucket names'
    )
    parser.add_argument(
        '--average', type=int, default=1, metavar='N', help='the mean of so many checkpoints'
    )
    parser.set_defaults(config=None)  # so that --config.KEY=VALUE is understood


def run(args: argparse.Namespace) -> int:
    from vitjax.training.evaluate import evaluate_checkpoint, rows
    from vitjax.training.records import plain

    given = {'data.eval_split': args.split, 'eval.batch_size': args.batch_size}
    overrides = args.overrides | {key: x for key, x in given.items() if x is not None}
    found = evaluate_checkpoint(
        args.workdir,
        overrides=overrides,
        step=args.step,
        average=args.average,
        evals=args.evals.split(',') if args.evals else None,
        allow_code=args.allow_code or None,
    )
    for split, row in rows(found):
        print(
            json.dumps({'step': found.step, 'split': split} | {k: plain(v) for k, v in row.items()})
        )
    return 0
