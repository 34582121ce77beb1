"""Every experiment runs, and its README holds what was measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitjax.data.sources import open_source
from vitjax.errors import UserError

FOLDER = Path(__file__).parent.parent / 'experiments'
EXPERIMENTS = pytest.mark.parametrize(
    'name', sorted(p.parent.name for p in FOLDER.glob('*/run.py'))
)

spec = importlib.util.spec_from_file_location('harness', FOLDER / 'harness.py')
harness = importlib.util.module_from_spec(spec)
spec.loader.exec_module(harness)


@pytest.mark.slow
@EXPERIMENTS
def test_quick(name, tmp_path, environment):
    # One repetition but where more take no time, or are what is tested: means and spreads.
    seeds = {'lookup': 3, 'locality': 2}.get(name, 1)
    command = [sys.executable, FOLDER / name / 'run.py', '--quick', '--output', tmp_path]
    if name != 'lookup':  # which trains nothing
        command += ['--seeds', str(seeds)]
    variables = environment(optimise=False)
    process = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr

    results = json.loads((tmp_path / 'results.json').read_text())
    for cell, rows in harness.cells(results['rows'], results['by']).items():
        assert len({row['seed'] for row in rows}) == len(rows) == seeds, cell
        assert all(value in row for row in rows for value in results['values'])
    assert harness.table(results) in process.stdout
    assert (tmp_path / 'table.md').read_text() == harness.table(results)
    assert (tmp_path / 'figure.png').read_bytes().startswith(b'\x89PNG')
    # Whatever learned something did so by `vitjax train`.
    assert name == 'lookup' or list((tmp_path / 'runs').glob('*/checkpoints'))


@EXPERIMENTS
def test_readme_holds_the_measured_table_and_figure(name):
    folder = FOLDER / name
    if not (folder / 'results.json').exists():
        assert 'not measured yet' in (folder / 'README.md').read_text()
        pytest.skip(f'the full run of {name} is not measured yet')
    results = json.loads((folder / 'results.json').read_text())
    readme = (folder / 'README.md').read_text()
    assert harness.table(results) in readme
    assert '](figure.png)' in readme
    assert (folder / 'figure.png').is_file()
    assert f'python experiments/{name}/run.py' in readme


@pytest.mark.slow
def test_a_finished_run_is_neither_run_again_nor_taken_for_another(recipe, tmp_path):
    options = harness.Options(quick=True, output=tmp_path, seeds=range(3), overrides=())
    once = harness.train(options, recipe, 'one', 0, {'steps': 2})
    written = (tmp_path / 'runs/one-0/metrics.jsonl').stat().st_mtime_ns
    assert harness.train(options, recipe, 'one', 0, {'steps': 2}) == once
    assert (tmp_path / 'runs/one-0/metrics.jsonl').stat().st_mtime_ns == written
    with pytest.raises(UserError, match=r'steps: 2 -> 3.*take another --output'):
        harness.train(options, recipe, 'one', 0, {'steps': 3})


@pytest.mark.slow
def test_an_overridden_length_takes_the_place_of_any_other(recipe, tmp_path):
    options = harness.Options(True, tmp_path, range(3), ('--config.examples=32',))
    _, workdir = harness.train(options, recipe, 'one', 0, {'steps': 9})
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert rows[-1]['step'] == 2


def test_other_images_are_not_written_over(tmp_path):
    part = np.zeros((1, 2, 2)), np.zeros(1)
    harness.write_images(tmp_path, {'train': part, 'test': part})
    harness.write_images(tmp_path, {'train': part, 'test': part})
    with pytest.raises(UserError, match='holds other images'):
        harness.write_images(tmp_path, {'train': (part[0] + 1, part[1]), 'test': part})


def test_a_table_has_a_line_a_cell_with_mean_and_spread():
    rows = [{'k': 'a', 'seed': 0, 'v': 1.0}, {'k': 'a', 'seed': 1, 'v': 2.0}]
    rows += [{'k': 'b', 'seed': 0, 'v': None}]
    lines = harness.table({'by': ['k'], 'values': ['v'], 'rows': rows}).splitlines()
    assert lines == [
        '| k | v | seeds |',
        '|---|---|---|',
        '| a | 1.5 ± 0.71 | 2 |',
        '| b | - | 1 |',
    ]


def test_drawn_images_are_read_back(tmp_path):
    images, labels = np.arange(24).reshape(2, 3, 4), np.array([1, 0])
    harness.write_images(tmp_path, {'train': (images, labels), 'test': (images[:1], labels[:1])})
    source = open_source('idx', 'train', str(tmp_path))
    assert [source[index]['label'] for index in range(len(source))] == [1, 0]
    np.testing.assert_array_equal(source[1]['image'][..., 0], images[1])
    assert len(open_source('idx', 'test', str(tmp_path))) == 1
