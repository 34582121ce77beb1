import pytest

from vitjax.errors import UserError
from vitjax.runtime.distributed import check_process


def test_check_process_accepts_none_or_a_valid_process():
    check_process(None, None, None)
    check_process('host:1234', 2, 1)


@pytest.mark.parametrize(
    ('process', 'message'),
    [
        (('host:1234', 2, None), 'must be given together'),
        ((None, None, 0), 'must be given together'),
        (('host', 2, 0), "must be HOST:PORT, not 'host'"),
        (('host:1234', 2, 2), 'not 2 of 2'),
        (('host:1234', 2, -1), 'not -1 of 2'),
    ],
)
def test_check_process_refuses_other_values(process, message):
    with pytest.raises(UserError, match=message):
        check_process(*process)
