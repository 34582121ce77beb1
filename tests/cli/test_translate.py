"""`vitjax translate` as a user types it."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitjax.cli import main


@pytest.fixture
def run(translator, capsys, monkeypatch):
    """Runs the command in this process: arguments, stdin -> (exit code, stdout, stderr)."""

    def run(*arguments, stdin=b''):
        source = io.TextIOWrapper(io.BytesIO(stdin), encoding='utf-8')
        monkeypatch.setattr(sys, 'stdin', source)
        monkeypatch.setattr(sys.stdout, 'reconfigure', lambda **_: None, raising=False)
        try:
            code = main(['translate', '--checkpoint', str(translator), *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_translate_keeps_the_order_of_texts_and_lines(run, numbers):
    (one, other), (first, second) = zip(*(numbers[9], numbers[5]), strict=True)
    assert run(one, other) == (0, f'{first}\n{second}\n', '')
    stdin = f'{one}\n\n{other}'.encode()
    assert run(stdin=stdin) == (0, f'{first}\n\n{second}\n', '')
    assert run(stdin=b'\xef\xbb\xbf' + stdin) == (0, f'{first}\n\n{second}\n', '')
    assert run(stdin=b'') == (0, '', '')


@pytest.mark.slow
def test_translate_draws_the_attention_of_the_first_text_of_stdin(run, numbers, monkeypatch):
    texts = []
    monkeypatch.setattr('vitjax.analysis.alignment.font_for', lambda text: texts.append(text))
    monkeypatch.setattr(
        'vitjax.analysis.alignment.draw_alignment', lambda _, text, path: texts.append((text, path))
    )
    words = ('--batch_size', 1, '--attention', 'map.png')
    code, out, _ = run(*words, stdin=b'\n' * 11 + numbers[9][0].encode())
    assert (code, out) == (0, '\n' * 11 + numbers[9][1] + '\n')
    assert texts == ['', '', numbers[9][0], (numbers[9][0], Path('map.png'))]


@pytest.mark.slow
def test_translate_json_has_scores_and_n_best(run, numbers):
    korean, english = numbers[30]
    code, out, _ = run('--json', '--beam_size', 3, '--n_best', 2, korean)
    row = json.loads(out)
    assert code == 0
    assert row['source'] == korean
    assert row['translations'][0]['text'] == english
    assert row['translations'][0]['score'] > row['translations'][1]['score']
    assert len(run('--beam_size', 3, '--n_best', 2, korean)[1].splitlines()) == 2


@pytest.mark.parametrize(
    ('arguments', 'stdin', 'message'),
    [
        ([], b'\xec\x9d\xbc\n\xff\n', 'stdin: line 2 is not UTF-8 at byte 1'),
        (['a\udcff'], b'', 'text 1 is not UTF-8 at character 2'),
        (['--beam_size', 0, 'a'], b'', '--beam_size, --batch_size and --average must be at least'),
        (['--n_best', 5, 'a'], b'', '--n_best must be from 1 to --beam_size, which is 4'),
        (['--average', 99, 'a'], b'', '99 checkpoints to average, but there are 3'),
        (['--attention', 'map.png', ''], b'', '--attention: there is no text to draw'),
        (
            ['--attention', 'no/map.png', 'a'],
            b'',
            'no/map.png must end with .png and be in an existing folder',
        ),
        (
            ['--attention', 'map.jpg', 'a'],
            b'',
            'map.jpg must end with .png and be in an existing folder',
        ),
    ],
)
def test_translate_reports_a_mistake_in_one_line(run, arguments, stdin, message):
    code, out, err = run(*arguments, stdin=stdin)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert 'map' not in out


@pytest.mark.slow
def test_translate_refuses_an_image_model(recipe, tmp_path, capsys):
    from vitjax.config import read_config
    from vitjax.training.loop import train

    train(read_config(str(recipe), {'steps': '1'}), tmp_path)
    assert main(['translate', '--checkpoint', str(tmp_path), 'a']) == 2
    assert 'is not a translation model' in capsys.readouterr().err


def test_predict_refuses_a_translation_model(translator, capsys):
    assert main(['predict', '--checkpoint', str(translator), 'a.png']) == 2
    assert 'vitjax translate' in capsys.readouterr().err


@pytest.mark.slow
def test_translate_in_a_process_with_pipes(translator, numbers, environment):
    korean, english = numbers[40]
    process = subprocess.run(
        [sys.executable, '-m', 'vitjax', 'translate', '--checkpoint', translator],
        input=f'{korean}\n'.encode(),
        env=environment(),
        capture_output=True,
    )
    assert (process.returncode, process.stdout.decode()) == (0, f'{english}\n')
