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
        '--average', type=int, default=1, metavar='N', help='the mean of so many checkpoints'
    )
    parser.set_defaults(config=None)  # so that --config.KEY=VALUE is understood


def run(args: argparse.Namespace) -> int:
    from vitjax.config import read_config
    from vitjax.errors import UserError
    from vitjax.files import to_path

    if args.average < 1:
        raise UserError('--average must be at least 1')
    workdir = to_path(args.workdir)
    stored = workdir / 'config.json'
    if not stored.is_file() or not (workdir / 'checkpoints').is_dir():
        raise UserError(
            f'{workdir} is not the folder of a run: it has no config.json, or no checkpoints'
        )
    # The devices of this machine, not those that the run was trained on.
    overrides = {'mesh.data': -1, 'mesh.fsdp': 1, 'mesh.tensor': 1} | args.overrides
    said = {'data.eval_split': args.split, 'eval.batch_size': args.batch_size}
    overrides |= {key: value for key, value in said.items() if value is not None}
    config = read_config(str(stored), {key: str(value) for key, value in overrides.items()})

    from vitjax.checkpoints import restore_variables
    from vitjax.training.evaluation import Evaluator
    from vitjax.training.experiment import Experiment
    from vitjax.training.records import plain

    experiment = Experiment(config, run=workdir, training=False)
    variables, step = restore_variables(
        workdir / 'checkpoints',
        experiment.abstract_variables,
        averaged=config.optimizer.ema is not None,
        step=args.step,
        average=args.average,
    )
    metrics = Evaluator(experiment)(variables)
    row = {name: plain(value) for name, value in metrics.items()}
    print(json.dumps({'step': step, 'split': config.data.eval_split, **row}))
    return 0
