"""Prints the metrics of a run's checkpoint on a split of its data, as one JSON line.

Every value of the run's config can be set: --config.task.sample=1000, --config.precision.compute=float32.
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--workdir', required=True, help='folder of the run')
    parser.add_argument('--step', type=int, help='step of the checkpoint; default: the newest')
    parser.add_argument('--split', help='such as test or train[:10%%]; default: that of the config')
    parser.add_argument('--batch_size', type=int, help='default: that of the config')
    parser.add_argument(
        '--evals',
        metavar='NAME,...',
        help="entries of config.evals to run, instead of the task's metrics",
    )
    parser.add_argument(
        '--allow_code',
        action='store_true',
        help='allow a run in a bucket to import code that is not part of vitjax',
    )
    parser.add_argument(
        '--average',
        type=int,
        default=1,
        metavar='N',
        help='average the parameters of the last N checkpoints',
    )
    parser.set_defaults(config=None)  # enables --config.KEY=VALUE


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
