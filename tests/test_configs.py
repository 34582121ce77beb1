"""Every recipe is valid, and its docstring has the command, the result, the time and the hardware."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import vitjax
from vitjax.config import read_config
from vitjax.errors import UserError
from vitjax.pretrained.layouts.base import Parts, parameter_shapes
from vitjax.pretrained.loading import assemble
from vitjax.training.build import build_experiment

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / 'configs').rglob('*.py'))


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Folder of saved weights, for recipes that start from pretrained weights."""
    arguments = dict(image_size=8, patch_size=4, in_channels=1, width=8, depth=1, num_heads=2)
    shapes = parameter_shapes('vit', arguments)
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    parts = Parts('vit', arguments, params, dict(crop=1.0, mean=(0.5,), std=(0.5,)))
    path = tmp_path_factory.mktemp('weights') / 'vit'
    vitjax.save(assemble(parts, source='', layout=''), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipe_builds_an_experiment(path, weights):
    overrides = {'model.pretrained': str(weights)} if path.stem == 'finetune' else {}
    config = read_config(str(path), overrides)
    if config.data.path and not Path(config.data.path).exists():
        pytest.skip(f'{path.name} needs the data in {config.data.path}')
    if config.data.name == 'libreoffice' and not Path('/usr/share/libreoffice/help/ko').exists():
        pytest.skip(f'{path.name} needs the Debian packages libreoffice-help-ko and -en-us')
    try:
        # Data that every user brings: only their shapes are known.
        experiment = build_experiment(
            config, read_data=(config.data.name, config.data.path) != ('folder', None)
        )
    except UserError as error:
        if not config.data.name.startswith('tfds:'):
            raise
        pytest.skip(f'{path.name}: {error}')
    assert experiment.lengths.total > 0


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipe_docstring_has_command_and_measured_result(path):
    docstring = ' '.join(ast.get_docstring(ast.parse(path.read_text())).split())
    name = path.relative_to(ROOT / 'configs').with_suffix('').as_posix()
    assert f'vitjax train --config vitjax:{name} --workdir' in docstring
    if 'not measured yet' in docstring:
        return
    for word in ('accuracy|BLEU|loss', 'CPU', 'jax', 'measured'):
        assert re.search(word, docstring, re.IGNORECASE), word
