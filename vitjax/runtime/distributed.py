"""Starting JAX's distributed runtime, with which the processes of several hosts train one model."""

import re

from vitjax.errors import UserError


def check_process(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """UserError unless the three values are all None, or all given and valid.

    Args:
      coordinator: address of process 0, as 'HOST:PORT'.
      num_processes: how many processes train together.
      process_id: number of this process, from 0.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if not any(given):
        return
    if coordinator is None or num_processes is None or process_id is None:
        raise UserError('--coordinator, --num_processes and --process_id must be given together')
    if not re.fullmatch(r'.+:\d+', coordinator):
        raise UserError(f'--coordinator must be HOST:PORT, not {coordinator!r}')
    if not 0 <= process_id < num_processes:
        raise UserError(
            f'--process_id must be from 0 to --num_processes - 1, not {process_id} of {num_processes}'
        )


def join_processes(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects this process with the others; call it before JAX makes its devices.

    Without arguments, JAX finds them out from the cluster: a TPU slice, Kubernetes or SLURM.

    Raises:
      UserError: the arguments are not valid, or not given where no cluster provides them.
    """
    check_process(coordinator, num_processes, process_id)
    import jax

    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except ValueError as error:
        if coordinator is not None:
            raise
        raise UserError(
            'found no TPU slice, Kubernetes or SLURM job that numbers the processes: start each with '
            '--coordinator HOST:PORT --num_processes N --process_id K'
        ) from error
