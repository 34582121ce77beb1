"""Events as the training loop makes them, for callbacks."""

import json
import types

CONFIG = {
    'model': {'name': 'vit', 'width': 64},
    'optimizer': {'learning_rate': 0.001, 'frozen': []},
    'data': {'eval_split': 'test', 'path': None},
    'evals': {},
}


def make_event(workdir, kind, step=0, name='', metrics=None, config=CONFIG, **more):
    """An event of a run in `workdir`."""
    return types.SimpleNamespace(
        kind=kind,
        step=step,
        name=name,
        metrics=metrics or {},
        config=config,
        workdir=workdir,
        **more,
    )


def record(callback, workdir, kind, step, name, metrics):
    """An event, and then its row in `metrics.jsonl`, as the loop writes it."""
    callback(make_event(workdir, kind, step, name, metrics))
    with (workdir / 'metrics.jsonl').open('a') as file:
        file.write(json.dumps({'step': step, 'split': name, **metrics}) + '\n')


def train(callback, workdir, steps, *, end=True):
    """Events of the steps: a log at each, an evaluation and a checkpoint at each second one.

    Rows of a `metrics.jsonl` that is there are dropped from the first step on.
    """
    workdir.mkdir(exist_ok=True)
    rows = workdir / 'metrics.jsonl'
    if rows.exists():
        lines = rows.read_text().splitlines(keepends=True)
        rows.write_text(''.join(line for line in lines if json.loads(line)['step'] < steps[0]))
    for step in steps:
        record(callback, workdir, 'log', step, 'train', {'loss': 1 / step, 'skipped': None})
        if step % 2 == 0:
            record(callback, workdir, 'eval', step, 'test', {'accuracy': step / 10})
            record(callback, workdir, 'eval', step, 'knn', {'accuracy': step / 20})
            callback(make_event(workdir, 'checkpoint', step, 'test', {'accuracy': step / 10}))
    if end:
        callback(make_event(workdir, 'end', steps[-1], 'test'))


def expected_series(steps):
    """Name -> {step: value} of what `train` measures."""
    even = [step for step in steps if step % 2 == 0]
    return {
        'train/loss': {step: 1 / step for step in steps},
        'test/accuracy': {step: step / 10 for step in even},
        'knn/accuracy': {step: step / 20 for step in even},
    }
