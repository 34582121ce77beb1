"""Trains a model as a config says, evaluates it and keeps checkpoints; run again, it goes on.

Any value of the config can be set on the command line: --config.model.depth=6, --config.steps=500.
On several hosts, start the same command on each with --distributed.
"""

import argparse
import contextlib
import shlex
import signal
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--config', required=True, metavar='FILE[:ARG]', help='the recipe')
    parser.add_argument('--workdir', required=True, help="the run's folder, here or gs://...")
    parser.add_argument(
        '--distributed', action='store_true', help='train together with other processes'
    )
    hosts = parser.add_argument_group('with --distributed, where the cluster does not say it')
    hosts.add_argument('--coordinator', metavar='HOST:PORT', help='address of process 0')
    hosts.add_argument('--num_processes', type=int)
    hosts.add_argument('--process_id', type=int)


def run(args: argparse.Namespace) -> int:
    from vitjax.config import read_config
    from vitjax.errors import UserError
    from vitjax.files import to_path

    if not args.distributed and (args.coordinator or args.num_processes or args.process_id):
        raise UserError('--coordinator, --num_processes and --process_id go with --distributed')
    if args.distributed:
        import jax

        # Before the config is read, which may take reading weights, and so JAX's devices.
        jax.distributed.initialize(args.coordinator, args.num_processes, args.process_id)
    # Before the rest is imported, so that a mistake in the config answers at once.
    workdir = to_path(args.workdir)
    config = read_config(args.config, args.overrides)

    import jax

    from vitjax.training.loop import train

    with _stop_on_sigterm() as should_stop:
        metrics = train(config, workdir, should_stop)
    if jax.process_index() == 0:
        _conclude(workdir, config, metrics)
    return 0


@contextlib.contextmanager
def _stop_on_sigterm():
    """Gives a function that says, at each step, whether to save and stop."""
    import jax

    if jax.process_count() > 1:
        # JAX's coordination service has its own handler; all hosts learn the same last step.
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        yield reached_preemption_sync_point
        return
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        yield lambda step: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)


def _conclude(workdir: Path, config: Any, metrics: dict[str, float]) -> None:
    """The result on stdout, and what to type next."""
    shown = '  '.join(
        f'{name} {value:.4f}' if isinstance(value, float) else f'{name} {value}'
        for name, value in metrics.items()
    )
    print(f'{config.data.eval_split} {shown}')
    print(f'run: {workdir}')
    example = workdir / 'examples' / 'source.txt'
    if example.exists():
        command = ['vitjax', 'translate', '--checkpoint', workdir, example.read_text().strip()]
    elif config.task.name == 'masked_autoencoding':
        command = ['vitjax', 'train', '--config', 'configs/finetune.py', '--workdir']
        command += [f'{workdir}-tuned', f'--config.model.pretrained={workdir}']
        command += [f'--config.data.{k}={v}' for k in ('name', 'path') if (v := config.data[k])]
    else:
        command = ['vitjax', 'predict', '--checkpoint', workdir, *(workdir / 'examples').glob('*')]
    print(f'next: {shlex.join(map(str, command))}')
