"""Batches on the devices, the next one made while a step computes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import jax

from vitjax.training.sharding import to_devices


def prefetch(
    batches: grain.DatasetIterator, mesh: jax.sharding.Mesh
) -> Iterator[tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Each batch, on the devices of a mesh, and the state of `batches` right after it.

    A thread makes the next batch in the meantime; what goes wrong there is raised when that batch is
    due. Close what this returns before `batches`: it waits for the thread.
    """

    def make():
        batch = next(batches, None)
        return batch and (to_devices(batch, mesh), batches.get_state())

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(make)
        while made := coming.result():
            coming = thread.submit(make)
            yield made
