"""`vitjax convert`: formats, sizes, and mistakes that leave nothing behind."""

import numpy as np
import pytest

import vitjax
from vitjax.cli import main
from vitjax.pretrained.layouts.base import Parts, parameter_shapes
from vitjax.pretrained.loading import assemble

ARGUMENTS = dict(image_size=8, patch_size=4, width=8, depth=1, num_heads=2, num_classes=3)
PREPROCESS = dict(mean=(0.5,), std=(0.5,), crop=1.0, interpolation='bilinear')


@pytest.fixture(scope='session')
def source(tmp_path_factory):
    """A `.npz` file in Google's layout."""
    shapes = parameter_shapes('vit', ARGUMENTS)
    params = {path: np.full(shape, 0.1, np.float32) for path, shape in shapes.items()}
    parts = Parts('vit', ARGUMENTS, params, PREPROCESS)
    path = tmp_path_factory.mktemp('convert') / 'source.npz'
    vitjax.save(assemble(parts, source='test', layout='vitjax'), path, format='google')
    return path


def test_convert_to_another_format_and_back_keeps_weights(source, tmp_path):
    assert main(['convert', str(source), str(tmp_path / 'run'), '--format', 'vitjax']) == 0
    back = tmp_path / 'back.npz'
    assert main(['convert', str(tmp_path / 'run'), str(back), '--format', 'google']) == 0
    with np.load(source) as original, np.load(back) as written:
        assert sorted(original) == sorted(written)
        for name in original:
            np.testing.assert_array_equal(written[name], original[name])


def test_convert_changes_the_size(source, tmp_path):
    sizes = ['--image_size=8,16', '--patch_size', '2', '--num_classes=7', '--in_channels=1']
    folder = tmp_path / 'google'
    assert main(['convert', str(source), str(folder), '--format=google', *sizes]) == 0
    model = vitjax.load(folder).model
    assert (model.image_size, model.patch_size) == ((8, 16), (2, 2))
    assert (model.num_classes, model.in_channels) == (7, 1)


def test_convert_does_not_replace_the_current_folder(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['convert', str(source), '.', '--format=google']) == 2
    assert 'is the folder that you are in' in capsys.readouterr().err
    (tmp_path / 'file').touch()
    assert main(['convert', str(source), 'file/x', '--format=google']) == 2
    assert 'file is a file' in capsys.readouterr().err


def test_convert_takes_missing_metadata_from_set(source, tmp_path):
    said = ['--set', 'mean=0.25', '--set', 'std=0.1,0.2,0.3', '--set', 'interpolation=bicubic']
    assert main(['convert', str(source), str(tmp_path / 'run'), '--format=vitjax', *said]) == 0
    preprocess = vitjax.load(tmp_path / 'run').preprocess
    assert (preprocess.mean, preprocess.std) == ((0.25,), (0.1, 0.2, 0.3))
    assert preprocess.interpolation == 'bicubic'


MISTAKES = {
    'format': (['{source}', '{dest}', '--format=googel'], "unknown format 'googel'; did you mean"),
    'source': (['{dest}', '{dest}', '--format=google'], 'no such file or folder'),
    'not weights': (['{code}', '{dest}', '--format=google'], 'weights are read from .npz'),
    'not a folder of weights': (['{empty}', '{dest}', '--format=google'], 'has no config.json'),
    'dest': (['{source}', '{source}', '--format=google'], 'exists and is not an empty folder'),
    'dest in use': (['{source}', '{used}', '--format=vitjax'], 'exists and is not an empty folder'),
    'size': (
        ['{source}', '{dest}', '--format=google', '--image_size=9'],
        'patch height 4 does not',
    ),
    'no size': (
        ['{source}', '{dest}', '--format=google', '--image_size=x'],
        '--image_size: expected',
    ),
    'set a word': (
        ['{source}', '{dest}', '--format=google', '--set', 'num_heads=x'],
        "--set num_heads: expected int, got 'x'",
    ),
    'set': (['{source}', '{dest}', '--format=google', '--set', 'heads'], 'write NAME=VALUE'),
    'argument': (
        ['{source}', '{dest}', '--format=google', '--set=num_head=2'],
        "mean 'num_heads'?",
    ),
    'contradiction': (
        ['{source}', '{dest}', '--format=google', '--set=num_heads=4'],
        'the call says num_heads=4, the tensors say 2',
    ),
    'cannot hold': (
        ['{source}', '{dest}', '--format=google', '--set=activation=gelu'],
        "google cannot hold this model: its activation is 'gelu', and what would be written reads",
    ),
}


@pytest.mark.parametrize(('arguments', 'message'), MISTAKES.values(), ids=MISTAKES)
def test_convert_reports_a_mistake_in_one_line_and_writes_nothing(
    source, tmp_path, capsys, arguments, message
):
    used = tmp_path / 'used/file'
    used.parent.mkdir()
    used.touch()
    (tmp_path / 'empty').mkdir()
    places = {'source': source, 'code': __file__, 'used': used.parent, 'empty': tmp_path / 'empty'}
    words = [word.format(dest=tmp_path / 'dest', **places) for word in arguments]
    assert main(['convert', *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert not captured.out
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['empty', 'file', 'used']
