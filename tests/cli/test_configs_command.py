"""`vitjax configs` as a user types it."""

from pathlib import Path

from vitjax.config import read_config

FOLDER = Path(__file__).parents[2] / 'configs'


def test_configs_lists_every_recipe_with_its_summary(command):
    code, out, err = command('configs')
    assert (code, err) == (0, '')
    listed = dict(line.split(maxsplit=1) for line in out.splitlines())
    names = {path.relative_to(FOLDER).with_suffix('').as_posix() for path in FOLDER.rglob('*.py')}
    assert listed.keys() == names
    for name, summary in listed.items():
        assert (FOLDER / f'{name}.py').read_text().startswith(f'"""{summary}\n')


def test_configs_prints_a_recipe_that_can_be_copied_and_read(command, tmp_path):
    code, out, err = command('configs', 'mae/digits')
    assert (code, err) == (0, '')
    copy = tmp_path / 'mine.py'
    copy.write_text(out)
    assert read_config(str(copy)) == read_config('vitjax:mae/digits')


def test_configs_proposes_the_nearest_name(command):
    for name, nearest in [('digit', 'digits'), ('phrasebook', 'translation/phrasebook')]:
        message = f'unknown recipe of vitjax {name!r}; did you mean {nearest!r}?'
        assert command('configs', name) == (2, '', f'vitjax configs: error: {message}\n')
