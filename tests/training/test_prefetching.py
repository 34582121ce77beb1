import contextlib
import threading

import numpy as np
import pytest

from vitjax.training.prefetching import prefetch
from vitjax.training.sharding import make_mesh

MESH = make_mesh({'data': 1, 'fsdp': 1, 'tensor': 1})


class Batches:
    """Five batches, the fourth of which cannot be read if `broken`."""

    def __init__(self, broken=False):
        self.step, self.broken = 0, broken
        self.made = threading.Event()

    def __next__(self):
        if self.step == 5:
            raise StopIteration
        if self.broken and self.step == 3:
            raise ValueError('the fourth')
        self.step += 1
        if self.step == 2:
            self.made.set()
        return {'x': np.full(2, self.step)}

    def get_state(self):
        return {'step': self.step}


def test_batches_come_in_order_each_with_its_own_state():
    found = [(batch['x'].tolist(), state) for batch, state in prefetch(Batches(), MESH)]
    assert found == [([step, step], {'step': step}) for step in range(1, 6)]


def test_the_next_batch_is_made_before_it_is_asked_for():
    batches = Batches()
    with contextlib.closing(prefetch(batches, MESH)) as ahead:
        next(ahead)
        assert batches.made.wait(10)
    assert batches.step == 2


def test_what_goes_wrong_is_raised_when_its_batch_is_due():
    ahead = prefetch(Batches(broken=True), MESH)
    assert [int(next(ahead)[0]['x'][0]) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match='the fourth'):
        next(ahead)
