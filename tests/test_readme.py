"""The README is true: its commands and examples run, its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def blocks(language):
    return re.findall(rf'^```{language}\n(.*?)^```', README, re.MULTILINE | re.DOTALL)


def steps(block):
    """The commands of a one-line block, each as words."""
    assert len(block.splitlines()) == 1
    return [shlex.split(command) for command in block.split('&&')]


def test_it_opens_with_two_commands_that_set_up_what_they_need():
    main, tests = blocks('sh')[:2]
    for block in (main, tests):
        assert steps(block)[0] == ['python3', '-m', 'venv', '.venv']
        assert steps(block)[2][:2] == ['pip', 'install']
    assert steps(main)[-1][:4] == ['vitjax', 'train', '--config', 'configs/digits.py']
    assert steps(main)[-1][-2:] == ['--workdir', 'runs/digits']
    assert steps(tests)[-1][0] == 'pytest'


@pytest.mark.slow
def test_main_command_and_examples_run(tmp_path, environment):
    """The main command, cut short, and after it every Python example, as they stand."""
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    command = [*steps(blocks('sh')[0])[-1], '--config.steps=3', '--config.schedule.warmup=1']
    options = {'cwd': tmp_path, 'env': environment(), 'capture_output': True, 'text': True}
    result = subprocess.run([sys.executable, '-m', *command], check=False, **options)
    assert result.returncode == 0, result.stderr

    following = shlex.split(result.stdout.splitlines()[-1])
    assert following[:3] == ['next:', 'vitjax', 'predict']
    result = subprocess.run([sys.executable, '-m', *following[1:]], check=False, **options)
    assert result.returncode == 0, result.stderr

    for example in blocks('python'):
        result = subprocess.run([sys.executable, '-c', example], check=False, **options)
        assert result.returncode == 0, result.stderr


def test_every_command_of_the_table_is_there():
    from vitjax.cli import COMMANDS

    assert re.findall(r'^\| `vitjax (\w+)', README, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md', 'docs/decisions.md'])
def test_links_and_paths_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r'\]\(([^)#]+)\)', text):
        assert (ROOT / page).parent.joinpath(target).exists(), target
    for path in re.findall(r'`((?:vitjax|configs|tests|docs)/[\w/.]+\.\w+)`', text):
        assert (ROOT / path).exists(), path
