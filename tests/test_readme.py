"""The README and the pages of the docs are true: commands and examples run, links have targets."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vitjax.config import read_config

ROOT = Path(__file__).parent.parent
PAGES = (
    'README.md',
    *(f'docs/{name}.md' for name in ('commands', 'data', 'models', 'translation', 'weights')),
)


def text(page='README.md'):
    return (ROOT / page).read_text()


def blocks(language, pages=('README.md',)):
    """The fenced blocks of a language, '' for none, of some pages."""
    pattern = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
    found = [block for page in pages for block in pattern.findall(text(page))]
    return [block for name, block in found if name == language]


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


@pytest.fixture
def run(tmp_path, environment, monkeypatch):
    """Runs a command, as words, where `configs` lies: what it printed."""
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)

    def run(*words, devices=1):
        result = subprocess.run(
            [sys.executable, '-m', *words],
            env=environment(devices, optimise=False),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result

    return run


@pytest.mark.slow
def test_main_command_and_examples_run(run, command):
    """The main command, cut short, and after it every Python example, as they stand."""
    result = run(*steps(blocks('sh')[0])[-1], '--config.steps=3', '--config.schedule.warmup=1')
    following = shlex.split(result.stdout.splitlines()[-1])
    assert following[:3] == ['next:', 'vitjax', 'predict']
    code, _, err = command(*following[2:])
    assert code == 0, err

    for example in blocks('python', PAGES):
        exec(compile(example, 'an example of the docs', 'exec'), {'__name__': '__main__'})


@pytest.mark.slow
def test_command_for_many_devices_runs(run):
    [block] = [block for block in blocks('') if '--distributed' in block]
    one, several = block.splitlines()
    assert several.partition('#')[0].split() == ['vitjax', 'train', '...', '--distributed']
    short = '--config.steps=1', '--config.schedule.warmup=0', '--config.model.depth=1'
    result = run(*shlex.split(one), *short, devices=8)
    assert 'mesh data 1 x fsdp 4 x tensor 2' in result.stderr


def test_other_commands_are_ones_that_there_are(monkeypatch, tmp_path):
    """Each is parsed; of those that train, the whole config is read."""
    from vitjax import cli

    parsed = []
    monkeypatch.setattr(cli, '_run', lambda args: parsed.append(args) or 0)
    monkeypatch.chdir(ROOT)
    blocks_of_commands = blocks('', PAGES)
    lines = [line for x in blocks_of_commands for line in x.splitlines() if '...' not in line]
    for line in (line for line in lines if line.startswith('vitjax ')):
        words = shlex.split(line.partition(' <')[0], comments=True)
        assert cli.main(words[1:]) == 0, line
    assert {'train', 'translate', 'convert'} <= {args.command for args in parsed}
    for args in parsed:
        if args.command == 'train' and 'finetune' not in args.config:  # which reads the weights
            read_config(args.config, args.overrides)


def test_extras_are_there():
    named = {x for page in PAGES for x in re.findall(r"'(?:\.|vitjax)\[([\w-]+)\]'", text(page))}
    assert named >= {'test', 'figures', 'cuda', 'tpu', 'onnx', 'fast-images'}
    assert named <= set(importlib.metadata.metadata('vitjax').get_all('Provides-Extra'))


def test_every_command_of_the_table_is_there():
    from vitjax.cli import COMMANDS

    found = re.findall(r'^\| `vitjax (\w+)', text('docs/commands.md'), re.MULTILINE)
    assert found == list(COMMANDS)


def test_the_readme_is_short():
    assert len(text().splitlines()) <= 150


@pytest.mark.parametrize(
    'page', ['README.md', 'CONTRIBUTING.md', *(f'docs/{x.name}' for x in ROOT.glob('docs/*.md'))]
)
def test_links_and_paths_have_targets(page):
    for target in re.findall(r'\]\(([^)#]+)\)', text(page)):
        if '://' not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target
    for path in re.findall(r'`((?:vitjax|configs|tests|docs)/[\w/.]+\.\w+)`', text(page)):
        assert (ROOT / path).exists(), path
