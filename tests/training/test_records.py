import json
import os
import struct
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event, SessionLog

from vitjax.errors import RunError
from vitjax.training.records import Records, read_records


def write_steps(records, steps):
    for step in steps:
        records.write(step, 'train', {'loss': float(np.float32(1 / step)), 'accuracy': 0.25})
        if step % 3 == 0:
            records.write(step, 'test', {'accuracy': step / 7, 'examples': 1500})


def lines(folder):
    return (Path(folder) / 'metrics.jsonl').read_text().splitlines()


def digits(number):
    """Significant ones of the shortest decimal number that is read as this double."""
    return len(Decimal(repr(number)).normalize().as_tuple().digits)


def events(folder):
    """All events, file by file in the order of their names, which is TensorBoard's."""
    for path in sorted(Path(folder).glob('events.out.tfevents.*')):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack('<Q', data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(folder):
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
    ]


def test_a_row_is_a_line_of_json(tmp_path):
    records = Records(tmp_path / 'new' / 'run', 0, tensorboard=False)
    records.write(3, 'train', {'loss': float(np.float32(0.1)), 'examples': 384})
    records.write(3, 'test', {'accuracy': 2 / 3, 'loss': float('nan'), 'bound': float('inf')})
    records.close()
    assert lines(tmp_path / 'new' / 'run') == [
        '{"step": 3, "split": "train", "loss": 0.1, "examples": 384}',
        '{"step": 3, "split": "test", "accuracy": 0.6666666666666666, "loss": null, "bound": null}',
    ]


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
@example(0.0, 99999997952.0)  # 1e11 in float32
def test_numbers_lose_nothing(double, single):
    with tempfile.TemporaryDirectory() as folder:
        records = Records(folder, 0, tensorboard=False)
        records.write(0, 'train', {'double': double, 'single': single})
        records.close()
        row = json.loads(lines(folder)[0])
    if row['double'] != double:
        assert float(np.float32(row['double'])) == double
    if np.isfinite(single):
        assert np.float32(row['single']) == single
        assert digits(row['single']) <= min(digits(single), 9)


@settings(max_examples=30, deadline=None)
@given(
    total=st.integers(1, 20),
    checkpoint=st.integers(0, 20),
    crash=st.integers(0, 20),
    torn=st.sampled_from([b'', b'{"step": 9, "spl', b'{"step": 0, "split": "train"}', b'\0\0\n']),
)
def test_a_resumed_run_leaves_the_bytes_of_an_uninterrupted_one(total, checkpoint, crash, torn):
    checkpoint, crash = min(checkpoint, total), min(max(checkpoint, crash), total)
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder, 'whole'), Path(folder, 'parts')
        records = Records(whole, 0, tensorboard=False)
        write_steps(records, range(1, total + 1))
        records.close()

        records = Records(parts, 0, tensorboard=False)
        write_steps(records, range(1, crash + 1))
        records.close()
        with (parts / 'metrics.jsonl').open('ab') as file:
            file.write(torn)
        records = Records(parts, checkpoint, tensorboard=False)
        write_steps(records, range(checkpoint + 1, total + 1))
        records.close()
        assert (parts / 'metrics.jsonl').read_bytes() == (whole / 'metrics.jsonl').read_bytes()
        assert os.listdir(parts) == ['metrics.jsonl']


def test_rows_are_read_up_to_a_torn_line(tmp_path):
    records = Records(tmp_path, 0, tensorboard=False)
    records.write(1, 'train', {'loss': 0.5})
    records.write(2, 'train', {'loss': float('nan')})
    records.close()
    with (tmp_path / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 3')
    assert read_records(tmp_path / 'metrics.jsonl') == [
        {'step': 1, 'split': 'train', 'loss': 0.5},
        {'step': 2, 'split': 'train', 'loss': None},
    ]


def test_a_new_run_overwrites_what_is_there(tmp_path):
    for _ in range(2):
        records = Records(tmp_path, 0, tensorboard=False)
        write_steps(records, [1])
        records.close()
    assert len(lines(tmp_path)) == 1


def test_a_missing_file_is_begun_anew(tmp_path):
    records = Records(tmp_path, 10, tensorboard=False)
    write_steps(records, [11])
    records.close()
    assert len(lines(tmp_path)) == 1


def test_scalars_go_to_tensorboard_and_speed_only_there(tmp_path):
    records = Records(tmp_path, 0)
    records.write(1, 'train', {'loss': 0.5})
    records.write_speed(1, {'examples_per_second': 128.0})
    records.write(2, 'test', {'loss': float('nan')})
    records.sync()  # and not closed
    assert scalars(tmp_path)[:2] == [(1, 'train/loss', 0.5), (1, 'speed/examples_per_second', 128)]
    assert np.isnan(scalars(tmp_path)[2][2])
    assert 'second' not in ''.join(lines(tmp_path))
    records.close()


def test_resumed_at_once_tensorboard_keeps_the_old_events_and_hides_those_after(tmp_path):
    for resume_step, steps in [(0, [1, 2, 3]), (2, [3])]:
        records = Records(tmp_path, resume_step)
        write_steps(records, steps)
        records.close()
    losses = [step for step, tag, _ in scalars(tmp_path) if tag == 'train/loss']
    assert losses == [1, 2, 3, 3]
    starts = [e.step for e in events(tmp_path) if e.session_log.status == SessionLog.START]
    assert starts == [1, 3]
    assert next(events(tmp_path)).file_version == 'brain.Event:2'


def test_tensorboard_is_imported_only_when_used(tmp_path):
    program = (
        'import sys; from vitjax.training.records import Records; '
        f'Records({str(tmp_path)!r}, 0, tensorboard=False).write(1, "train", {{"loss": 1.0}}); '
        'assert "tensorboardX" not in sys.modules'
    )
    subprocess.run([sys.executable, '-c', program], check=True)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_is_told_in_one_line(tmp_path):
    records = Records(tmp_path, 0, tensorboard=False)
    records._rows.close()
    records._rows = open('/dev/full', 'a', buffering=1)  # noqa: SIM115 - closed below
    with pytest.raises(RunError, match=r'cannot write .*: No space left on device'):
        records.write(1, 'train', {'loss': 1.0})
    with pytest.raises(RunError, match='No space left'):
        records.close()


def test_a_folder_that_is_a_file_is_told_in_one_line(tmp_path):
    (tmp_path / 'run').write_text('')
    with pytest.raises(RunError, match=r'cannot write .*run.*: File exists'):
        Records(tmp_path / 'run', 0)
