"""The launchers are clean, say how they are used, and in a dry run print what they would run."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent.parent / 'launch'
SETTINGS = {
    'tpu_vm': {'PROJECT': 'p', 'ZONE': 'us-east5-a', 'NAME': 'run1'},
    'tpu_slice': {
        **{'PROJECT': 'p', 'ZONE': 'us-east5-a', 'NAME': 'run1'},
        **{'TOPOLOGY': '2x4', 'HOSTS': '2'},
    },
    'gke': {
        **{'PROJECT': 'p', 'ZONE': 'us-east5-a', 'NAME': 'run1'},
        **{'CLUSTER': 'c', 'IMAGE': 'i', 'TPU_TYPE': 'v6e-16'},
    },
    'slurm': {'NODES': '2', 'GPUS': '4'},
}
# Of the launchers that make machines: what that takes, in order.
CREATED = {
    'tpu_vm': ['instances create run1'],
    'tpu_slice': [
        'resource-policies create workload-policy run1',
        'instance-templates create run1',
        'instance-groups managed create run1',
        'instance-groups managed wait-until run1',
    ],
}
LINE = ['vitjax', 'train', '--config', 'my recipe.py', '--workdir', '/mnt/run', '--distributed']
FLAG = "--config.data.path=/it's here"


def launch(name, *args, **settings):
    """(exit code, commands that a dry run prints, stderr)."""
    result = subprocess.run(
        ['bash', str(LAUNCH / f'{name}.sh'), *args],
        env={'PATH': os.environ['PATH'], 'HOME': '/home/me', 'REPOSITORY': 'https://host/r.git'}
        | {'DRY_RUN': '1'}
        | settings,
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout.splitlines(), result.stderr


def trained(command):
    """The `vitjax train` line within a printed command, in the words that a host's shell sees."""
    for word in shlex.split(command):
        if 'vitjax train' in word:
            # What comes before and after is joined by && and ;.
            line = word[word.index('vitjax train') :].partition(' ; ')[0].partition(' && ')[0]
            return shlex.split(line)
    return None


def test_every_launcher_is_in_the_table():
    assert {path.stem for path in LAUNCH.glob('*.sh')} - {'common'} == SETTINGS.keys()


@pytest.mark.parametrize('name', SETTINGS)
def test_all_hosts_run_the_same_line(name):
    code, commands, err = launch(name, LINE[3], LINE[5], FLAG, **SETTINGS[name])
    assert (code, err) == (0, '')
    lines = [line for line in map(trained, commands) if line]
    assert lines == [[*LINE, FLAG]] * (2 if name == 'tpu_slice' else 1)


@pytest.mark.parametrize('name', CREATED)
def test_machines_are_made_unless_they_are_there(name):
    _, commands, _ = launch(name, *LINE[3:6:2], **SETTINGS[name])
    made = [command for command in commands if not trained(command)]
    assert len(made) == len(CREATED[name])
    for command, words in zip(made, CREATED[name], strict=True):
        assert words in command
    _, commands, _ = launch(name, *LINE[3:6:2], **SETTINGS[name], CREATE='0')
    assert all(map(trained, commands))


@pytest.mark.parametrize('name', SETTINGS)
def test_without_arguments_it_says_how_it_is_used(name):
    code, commands, err = launch(name, **SETTINGS[name])
    assert (code, commands) == (2, [])
    assert f'launch/{name}.sh CONFIG WORKDIR' in err


@pytest.mark.parametrize('name', [name for name in SETTINGS if name != 'slurm'])
def test_a_missing_setting_is_named(name):
    for missing in SETTINGS[name]:
        settings = {key: value for key, value in SETTINGS[name].items() if key != missing}
        code, _, err = launch(name, *LINE[3:6:2], **settings)
        assert code != 0
        assert missing in err


@pytest.mark.skipif(shutil.which('shellcheck') is None, reason='shellcheck is not installed')
def test_shellcheck():
    result = subprocess.run(
        ['shellcheck', '-x', *map(str, sorted(LAUNCH.glob('*.sh')))], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
