"""Trains a model as a config says, evaluates it and keeps checkpoints; run again, it goes on.

Any value of the config can be set on the command line: --config.model.depth=6, --config.steps=500.
On several hosts, start the same command on each with --distributed.
"""

import argparse
import contextlib
import multiprocessing
import os
import re
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
    from vitjax.files import to_path

    # Before the rest is imported, so that a mistake in the config answers at once.
    workdir = to_path(args.workdir)
    config = read_config(args.config, args.overrides)
    _join(args)

    import jax

    from vitjax.training.loop import train

    with _stop_on_signals() as should_stop:
        result = train(config, workdir, should_stop=should_stop)
    if jax.process_index() == 0:
        _conclude(workdir, result)
    return 0


def _join(args: argparse.Namespace) -> None:
    """Makes one of all processes of the command, where that is asked for."""
    from vitjax.errors import UserError

    said = (args.coordinator, args.num_processes, args.process_id)
    known = [value is not None for value in said]
    if not args.distributed:
        if any(known):
            raise UserError('--coordinator, --num_processes and --process_id go with --distributed')
        return
    if any(known):
        if not all(known):
            raise UserError('--coordinator, --num_processes and --process_id go together')
        if not re.fullmatch(r'.+:\d+', args.coordinator):
            raise UserError(f'--coordinator must be HOST:PORT, not {args.coordinator!r}')
        if not 0 <= args.process_id < args.num_processes:
            raise UserError(
                f'--process_id must be from 0 to --num_processes - 1, not {args.process_id} '
                f'of {args.num_processes}'
            )
    import jax

    try:
        jax.distributed.initialize(*said)
    except ValueError as error:
        if any(known):
            raise
        raise UserError(
            'no TPU slice, Kubernetes or SLURM job that says which process this is: give each '
            '--coordinator HOST:PORT --num_processes N --process_id K'
        ) from error


@contextlib.contextmanager
def _stop_on_signals():
    """Gives a function that says, at each step, whether to save and stop."""
    import jax

    from vitjax.errors import Preempted

    if jax.process_count() > 1:
        # JAX's coordination service has its own handler; all hosts learn the same last step.
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        yield reached_preemption_sync_point
        return
    received = []

    def receive(number, _):
        if number == signal.SIGINT:
            if signal.SIGINT in received:
                # Not by an exception, which would wait for a checkpoint that is being written.
                for worker in multiprocessing.active_children():
                    worker.kill()
                os._exit(130)
            # Not by print, which may be what is interrupted.
            os.write(2, b'\nvitjax: stopping after this step; Ctrl-C once more to stop at once\n')
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda step: bool(received)
    except Preempted:
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _conclude(workdir: Path, result: Any) -> None:
    """The result on stdout, and what to type next."""
    shown = '  '.join(
        f'{name} {value:.4f}' if isinstance(value, float) else f'{name} {value}'
        for name, value in result.metrics.items()
    )
    experiment = result.experiment
    print(f'{experiment.eval_split} {shown}')
    print(f'run: {workdir}')
    if command := experiment.task.next_command(workdir):
        print(f'next: {shlex.join(map(str, command))}')
