"""Trains a model as a config specifies, with evaluations and checkpoints; run again, it resumes.

Every value of the config can be set on the command line: --config.model.depth=6, --config.steps=500. On
several hosts, start the same command on each host with --distributed.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--config',
        required=True,
        metavar='RECIPE[:ARG]',
        help='vitjax:NAME (see vitjax configs), or a Python file',
    )
    parser.add_argument(
        '--workdir', required=True, help='folder of the run, local or in a bucket (gs://...)'
    )
    parser.add_argument(
        '--distributed',
        action='store_true',
        help='train together with the processes of other hosts',
    )
    hosts = parser.add_argument_group(
        'with --distributed, on clusters other than TPU slices, Kubernetes and SLURM'
    )
    hosts.add_argument('--coordinator', metavar='HOST:PORT', help='address of process 0')
    hosts.add_argument('--num_processes', type=int, help='number of processes that train together')
    hosts.add_argument('--process_id', type=int, help='number of this process, from 0')


def run(args: argparse.Namespace) -> int:
    from vitjax.config import read_config
    from vitjax.errors import UserError
    from vitjax.files import to_path
    from vitjax.runtime.distributed import join_processes

    # The config is read before JAX is imported, so that a mistake in it is reported at once.
    workdir = to_path(args.workdir)
    config = read_config(args.config, args.overrides)
    process = (args.coordinator, args.num_processes, args.process_id)
    if args.distributed:
        join_processes(*process)
    elif any(value is not None for value in process):
        raise UserError('--coordinator, --num_processes and --process_id need --distributed')

    import jax

    from vitjax.runtime.signals import stop_on_signals
    from vitjax.training.loop import train

    with stop_on_signals() as should_stop:
        result = train(config, workdir, should_stop=should_stop)
    if jax.process_index() == 0:
        _print_result(workdir, result)
    return 0


def _print_result(workdir: Path, result: Any) -> None:
    """Prints the metrics, the run's folder and a command to type next."""
    metrics = '  '.join(
        f'{name} {value:.4f}' if isinstance(value, float) else f'{name} {value}'
        for name, value in result.metrics.items()
    )
    experiment = result.experiment
    print(f'{experiment.eval_split} {metrics}')
    print(f'run: {workdir}')
    if command := experiment.task.next_command(workdir):
        print(f'next: {shlex.join(map(str, command))}')
