"""Commands as a user types them: results on stdout, one line for a mistake, exit codes."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from vitjax.cli import main
from vitjax.data.images import to_picture
from vitjax.data.sources import open_source

MISTAKES = [
    (['--config.model.patch_size=3'], 'patch height 3 does not divide image height 8; nearest'),
    (
        ['--config.model.num_heads=5'],
        'num_heads 5 does not divide width 16; nearest that do: 2, 4, 8',
    ),
    (['--config.model.dpeth=5'], "unknown key of config.model 'dpeth'; did you mean 'depth'?"),
    (['--config.model.depth=deep'], "config.model.depth: expected int, got 'deep'"),
    (['--config.model.name=vit_b61'], "unknown model 'vit_b61'; did you mean 'vit_b16'?"),
    (['--config.optimizer.name=lambda'], "unknown optimizer 'lambda'; did you mean 'lamb'?"),
    (['--config.schedule.name=cosin'], "unknown schedule 'cosin'; did you mean 'cosine'?"),
    (['--config.data.name=digit'], "unknown data set 'digit'; did you mean 'digits'?"),
    (['--config.data.train_split=trian'], 'train'),
    (['--config.steps=-5'], 'config.steps: -5 is out of range'),
    (['--config.log.every=often'], 'is no duration'),
    (['--config.model.num_classes=11'], 'add --config.model.num_classes=10'),
    (['--config.schedule.warmup=99'], 'do not fit'),
    (['--config.optimizer.accumulate=3'], 'nearest that does: 15'),
    (['--config.mesh.fsdp=3'], 'devices, but there are 1'),
    (['--config.checkpoint.best=acuracy'], "unknown metric 'acuracy'; did you mean 'accuracy'?"),
    (['--config.model.attention_kernel=cudnn'], "'cudnn' is for GPUs, not for a cpu"),
    (['--nonsense'], 'unknown arguments: --nonsense'),
]


@pytest.mark.parametrize(('arguments', 'message'), MISTAKES)
def test_commands_report_a_mistake_in_one_line_with_exit_code_2(
    recipe, tmp_path, monkeypatch, command, arguments, message
):
    # Mistakes must be reported before anything is compiled.
    monkeypatch.setattr(jax.stages.Lowered, 'compile', lambda *_, **__: pytest.fail('compiled'))
    code, out, err = command('train', '--config', recipe, '--workdir', tmp_path, *arguments)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert 'Traceback' not in err
    assert not out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['bench', '--steps', 'x'], "bench: error: argument --steps: invalid int value: 'x'"),
        (['train'], 'train: error: the following arguments are required: --config, --workdir'),
        (['trian'], ": error: argument COMMAND: invalid choice: 'trian' (choose from "),
    ],
)
def test_argument_errors_are_one_line(words, message, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('vitjax')
    assert message in line


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('--distributed', 'found no TPU slice, Kubernetes or SLURM job'),
        ('--process_id 0', 'need --distributed'),
        ('--distributed --coordinator h:1 --num_processes 2', 'must be given together'),
        ('--distributed --coordinator h --num_processes 2 --process_id 0', 'must be HOST:PORT'),
        ('--distributed --coordinator h:1 --num_processes 2 --process_id 2', 'not 2 of 2'),
    ],
)
def test_train_checks_the_options_of_distributed(
    recipe, tmp_path, command, monkeypatch, words, message
):
    def initialize(*_):
        raise ValueError('coordinator_address should be defined.')

    monkeypatch.setattr(jax.distributed, 'initialize', initialize)
    code, _, err = command('train', '--config', recipe, '--workdir', tmp_path, *words.split())
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err


def test_train_refuses_a_batch_that_does_not_divide_over_devices(recipe, vitjax, tmp_path):
    arguments = ('--config', recipe, '--workdir', tmp_path, '--config.batch_size=12')
    code, _, err = vitjax('train', *arguments, devices=8)
    assert code == 2
    assert 'config.batch_size 12 does not divide over 8 devices' in err.splitlines()[-1]
    assert 'nearest that does: 16' in err or 'nearest that does: 8' in err


@pytest.fixture(scope='module')
def run(recipe, vitjax, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('run')
    code, _, err = vitjax('train', '--config', recipe, '--workdir', workdir)
    assert code == 0, err
    assert '\r' not in err
    assert 'step 20/20' in err
    return workdir


def assert_same_result(run, text, rtol):
    """Whether a JSON line equals the last line of the run's metrics.jsonl."""
    expected = json.loads((run / 'metrics.jsonl').read_text().splitlines()[-1])
    found = json.loads(text)
    assert found.keys() == expected.keys()
    assert found.pop('split') == expected.pop('split')
    assert found == pytest.approx(expected, rel=rtol)


@pytest.mark.slow
def test_eval_prints_the_metrics_of_the_training_run(run, vitjax):
    code, out, err = vitjax('eval', '--workdir', run)
    assert code == 0, err
    assert_same_result(run, out, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('batch_size', [1, 7, 360, 1000])
def test_eval_counts_every_example_once(run, batch_size, command):
    code, out, err = command('eval', '--workdir', run, '--batch_size', batch_size)
    assert code == 0, err
    assert_same_result(run, out, rtol=1e-5)


def test_eval_of_a_part_of_a_split(run, command):
    code, out, err = command('eval', '--workdir', run, '--split', 'train[:100]', '--step', 18)
    assert code == 0, err
    found = json.loads(out)
    assert (found['step'], found['examples'], found['split']) == (18, 100, 'train[:100]')


def test_eval_needs_no_training_data(run, command, tmp_path):
    source = open_source('digits', 'test')
    for index in range(len(source)):
        pixels, label = source[index]['image'], source[index]['label']
        (tmp_path / 'test' / str(label)).mkdir(parents=True, exist_ok=True)
        to_picture(pixels).save(tmp_path / 'test' / str(label) / f'{index}.png')
    elsewhere = ['--config.data.name=folder', f'--config.data.path={tmp_path}']
    code, out, err = command('eval', '--workdir', run, *elsewhere)
    assert code == 0, err
    assert_same_result(run, out, rtol=1e-5)

    shutil.rmtree(tmp_path / 'test' / '3')
    code, _, err = command('eval', '--workdir', run, *elsewhere)
    assert code == 2
    assert f'has other classes, 9 (0, 1, 2, 4, 5), than {run} was trained on, 10 (0, 1,' in err
    (tmp_path / 'train' / '3').mkdir(parents=True)
    for label in set('0123456789') - {'3'}:
        (tmp_path / 'train' / label).mkdir()
    code, out, err = command('eval', '--workdir', run, *elsewhere)
    assert code == 0, err
    assert json.loads(out)['examples'] < 360


@pytest.mark.slow
def test_predict_prints_a_line_for_each_image(run, vitjax, command, tmp_path):
    images = [next((run / 'examples').iterdir()), tmp_path / 'wide.png']
    Image.fromarray(np.zeros((20, 50, 4), np.uint8)).save(images[1])
    code, out, err = vitjax('predict', '--checkpoint', run, *images, '--top', 3)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == [str(path) for path in images]
    code, out, _ = command(
        'predict', '--checkpoint', run, *images, '--json', '--batch_size', 1, '--top', 10
    )
    assert code == 0
    for line, path in zip(out.splitlines(), images, strict=True):
        found = json.loads(line)
        assert found['image'] == str(path)
        assert sum(best['probability'] for best in found['top']) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_predict_continues_after_an_unreadable_image(run, command, tmp_path):
    good = next((run / 'examples').iterdir())
    other, damaged = tmp_path / 'other.png', tmp_path / 'damaged.png'
    shutil.copy(good, other)
    damaged.write_bytes(good.read_bytes()[:60])
    images = [damaged, good, tmp_path / 'none.png', good, other]
    for size in (1, 3, 8):
        code, out, err = command('predict', '--checkpoint', run, *images, '--batch_size', size)
        assert code == 2
        names, *answers = zip(*map(str.split, out.splitlines()), strict=True)
        assert names == (str(good), str(good), str(other))
        assert all(len(set(answer)) == 1 for answer in answers)  # the same image three times
        assert [str(damaged) in err, 'none.png' in err] == [True, True]
        assert len(err.splitlines()) == 2


def test_predict_and_eval_report_a_mistake_in_one_line(run, tmp_path, command):
    text = tmp_path / 'text.png'
    text.write_text('no image')
    for arguments, message in [
        (['predict', '--checkpoint', run, text], 'not an image'),
        (['predict', '--checkpoint', run, tmp_path / 'none.png'], 'no file'),
        (['predict', '--checkpoint', run, tmp_path], str(tmp_path)),
        (['predict', '--checkpoint', tmp_path / 'none', 'x.png'], 'no such file or folder'),
        (['predict', '--checkpoint', tmp_path, 'x.png'], 'not the folder of a run'),
        (['eval', '--workdir', tmp_path], 'not the folder of a run'),
        (['eval', '--workdir', run, '--step', '3'], 'no checkpoint of step 3'),
        (['eval', '--workdir', run, '--split', 'none'], "no split 'none'"),
    ]:
        code, _, err = command(*arguments)
        assert code == 2, arguments
        assert message in err
        assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_eval_works_on_other_devices_than_training(run, tmp_path, vitjax):
    copy = shutil.copytree(run, tmp_path / 'run')
    config = json.loads((copy / 'config.json').read_text())
    (copy / 'config.json').write_text(json.dumps(config | {'batch_size': 18}))
    code, out, err = vitjax('eval', '--workdir', copy, '--batch_size', 360, devices=4)
    assert code == 0, err
    assert json.loads(out)['examples'] == 360


def test_eval_accepts_overrides_of_the_config(run, command):
    words = ('--config.data.eval_split=train[:9]', '--config.eval.batch_size=9')
    code, out, err = command('eval', '--workdir', run, *words)
    assert code == 0, err
    assert (json.loads(out)['split'], json.loads(out)['examples']) == ('train[:9]', 9)


def test_eval_prints_null_for_values_that_are_not_finite(run, command, monkeypatch):
    numbers = {'loss': float('nan'), 'accuracy': 0.5}
    monkeypatch.setattr('vitjax.training.evaluate.SplitEvaluator.__call__', lambda *_: numbers)
    code, out, _ = command('eval', '--workdir', run)
    assert code == 0
    assert json.loads(out, parse_constant=pytest.fail) | numbers == json.loads(out) | numbers
    assert json.loads(out)['loss'] is None


def test_models_lists_the_models_that_match(command):
    code, out, err = command('models', 'vit_ti??', '--json')
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row['name'], row['parameters']) for row in rows] == [('vit_ti16', 5_717_416)]
    assert command('models', 'vit_x*')[0] == 2


@pytest.mark.parametrize('command', [[], ['train'], ['eval'], ['predict'], ['models'], ['bench']])
def test_help_does_not_import_jax(command):
    code = (
        'import sys; from vitjax.cli import main\n'
        f'try: main({[*command, "--help"]})\n'
        'except SystemExit as stop: assert stop.code == 0\n'
        'assert not {"jax", "flax", "numpy"} & sys.modules.keys()'
    )
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
