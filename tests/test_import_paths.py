import functools
import importlib
import shutil

import pytest
from flax import linen as nn

import vitjax
from vitjax import registry
from vitjax.config import base_config, complete, read_config
from vitjax.errors import UserError

MODULE = """
from __future__ import annotations
from collections.abc import Callable, Sequence
from typing import Any, Literal
from flax import linen as nn

class Net(nn.Module):
    sizes: Sequence[int]
    name_of: str | None = None
    mode: Literal['a', 'b'] = 'a'
    activation: Callable | None = None
    either: int | Callable = 3
    rate: float | int = 0.5
    table: dict[str, int] | None = None
    dtype: Any = None

    def __call__(self, x):
        return x

def make_net(size: int = 3) -> nn.Module:
    return Net((size,))

def make_number(size=3) -> int:
    return size

class Holder:
    Net = Net

class NoModule:
    pass
"""


@pytest.fixture(scope='module')
def own(tmp_path_factory):
    """Puts a module of one's own, `own_nets`, where it can be imported."""
    folder = tmp_path_factory.mktemp('own')
    (folder / 'own_nets.py').write_text(MODULE)
    (folder / 'own_broken.py').write_text('x = 1\n\nraise RuntimeError("no\\nluck")\n')
    (folder / 'own_syntax.py').write_text('x = 1\ny = (\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('vit', True),
        ('own_nets:Net', True),
        ('own_nets:Holder.Net', True),
        ('own_nets:make_net', True),
    ],
)
def test_a_model_is_a_name_an_import_path_or_the_class_itself(own, name, found):
    kind = registry.find('model', name)
    assert registry.find('model', kind) is kind
    assert callable(kind) == found


def test_create_model_takes_all_of_them(own):
    net = registry.find('model', 'own_nets:Net')
    for name in ('own_nets:Net', net, functools.partial(net)):
        assert vitjax.create_model(name, sizes=(3, 4)).sizes == (3, 4)
    assert vitjax.create_model('own_nets:make_net', size=7).sizes == (7,)
    with pytest.raises(
        UserError, match=r"unknown argument of own_nets:Net 'size'; did you mean 'sizes'"
    ):
        vitjax.create_model('own_nets:Net', size=3)
    with pytest.raises(UserError, match=r'Net: .*sizes'):
        vitjax.create_model(net)


@pytest.mark.parametrize(
    ('kind', 'name', 'message'),
    [
        ('model', 'os:system', "'os:system' is not a model: it must be a Flax Linen module class"),
        ('model', 'shutil:rmtree', 'is not a model'),
        ('model', 'own_nets:NoModule', 'is not a model'),
        ('model', 'own_nets:make_number', 'is not a model'),
        ('task', 'own_nets:Net', 'is not a task'),
        ('optimizer', 'os:getcwd', 'is not an optimizer'),
        ('data', 'os:environ', 'is not a data set'),
        ('evaluator', 'own_nets:NoModule', 'is not an evaluator'),
        ('augment', 'own_nets:make_net', 'is not an augment'),
        (
            'model',
            'own_nothing:Net',
            "no module 'own_nothing'; it must be installed, or be in the current",
        ),
        ('model', 'os.nothing:Net', "no module 'os.nothing'"),
        ('model', 'own_nets:Nett', "unknown attribute 'Nett'; did you mean 'Net'"),
        ('model', 'own_broken:Net', r'own_broken\.py, line 3: RuntimeError: no luck$'),
        ('model', 'own_syntax:Net', r'own_syntax\.py, line 2: SyntaxError'),
        ('model', 'vitt', "unknown model 'vitt'; did you mean 'vit'"),
        ('model', 3, "unknown model '3'"),
    ],
)
def test_what_can_go_wrong_is_one_line(own, kind, name, message):
    with pytest.raises(UserError, match=message) as error:
        registry.find(kind, name)
    assert '\n' not in str(error.value)


def test_a_kind_is_checked_before_anything_is_called():
    with pytest.raises(UserError, match="'os:abort' is not a model"):
        complete(base_config(), {'model.name': 'os:abort'})


def test_keys_come_from_the_signature(own):
    def config(**overrides):
        overrides = {'model.name': 'own_nets:Net', 'model.sizes': '(1, 2)'} | {
            f'model.{key}': value for key, value in overrides.items()
        }
        return complete(base_config(), overrides).model.to_dict()

    common = {'name': 'own_nets:Net', 'pretrained': None, 'load': None}
    defaults = {'name_of': None, 'mode': 'a', 'either': 3, 'rate': 0.5, 'table': None}
    assert config() == common | {'sizes': (1, 2)} | defaults
    assert config(sizes='3')['sizes'] == (3,)
    assert config(rate=1)['rate'] == 1
    assert config(table="{'x': 3}")['table'] == {'x': 3}
    for overrides, message in [
        ({'mode': 'c'}, "expected 'a' or 'b', got 'c'"),
        ({'sizes': '(1, x)'}, 'config.model.sizes'),
        ({'activation': 'relu'}, "unknown key of config.model 'activation'"),
        ({'dtype': 'bfloat16'}, "unknown key of config.model 'dtype'"),
    ]:
        with pytest.raises(UserError, match=message):
            config(**overrides)
    with pytest.raises(
        UserError, match=r'config\.model\.sizes must be given: own_nets:Net has no default'
    ):
        complete(base_config(), {'model.name': 'own_nets:Net'})


def test_code_from_elsewhere_is_not_imported_unless_it_is_allowed(own):
    with registry.refuse_code('hf:someone/model'):
        assert registry.find('model', 'vitjax.models.vit:ViT')
        with pytest.raises(
            UserError, match='hf:someone/model names code that is not part of vitjax'
        ):
            registry.find('model', 'own_nets:Net')
    assert registry.find('model', 'own_nets:Net')


def test_a_dataclass_with_annotations_as_text_may_be_in_the_recipe_itself(tmp_path):
    (tmp_path / 'own_recipe.py').write_text(
        'from __future__ import annotations\n'
        'import dataclasses\n'
        'import vitjax\n'
        '@dataclasses.dataclass(frozen=True)\n'
        'class Mine(vitjax.Task):\n'
        '    weights: tuple[float, ...] = (1.0,)\n'
        '    def loss(self, model, variables, batch, *, rngs, train): ...\n'
        'def get_config(arg=None):\n'
        '    config = vitjax.base_config()\n'
        "    config.task = {'name': 'own_recipe:Mine', 'weights': (1, 2)}\n"
        '    return config\n'
    )
    config = read_config(tmp_path / 'own_recipe.py')
    assert config.task.weights == (1.0, 2.0)
    assert registry.find('task', config.task.name)(weights=(3.0,)).weights == (3.0,)


def test_a_recipe_may_be_called_as_an_installed_package(tmp_path):
    for name in ('simplejpeg', 'json'):
        text = 'import vitjax\ndef get_config(arg=None): return vitjax.base_config()\n'
        (tmp_path / f'{name}.py').write_text(text)
        read_config(tmp_path / f'{name}.py')
        module = importlib.import_module(name)
        assert not module.__file__.startswith(str(tmp_path))


def test_recipes_come_with_vitjax():
    assert read_config('vitjax:digits').data.name == 'digits'
    assert read_config('vitjax:finetune:linear_probe').optimizer.frozen == ('^(?!head/)',)
    assert read_config('vitjax:translation/phrasebook').task.name == 'translation'
    with pytest.raises(UserError, match="unknown recipe of vitjax 'digit'; did you mean 'digits'"):
        read_config('vitjax:digit')


def test_a_folder_inside_a_run_holds_no_code(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    (run / 'own_hidden.py').write_text('class Net: pass')
    code = {'modules': {'own_hidden': {'folder': str(run), 'commit': None}}}
    registry.remember_code(code, run)
    with pytest.raises(UserError, match="no module 'own_hidden'"):
        registry.find('model', 'own_hidden:Net')
    outside = shutil.copytree(run, tmp_path / 'outside')
    (outside / 'own_hidden.py').write_text(
        'from flax import linen as nn\nclass Net(nn.Module): pass'
    )
    code['modules']['own_hidden']['folder'] = str(outside)
    registry.remember_code(code, run)
    assert issubclass(registry.find('model', 'own_hidden:Net'), nn.Module)


RESERVED = """
from flax import linen as nn

class Evaluator:
    def __init__(self, every: int = 7):
        pass

    def __call__(self, event):
        return {}

def make_model(pretrained: bool = False) -> nn.Module:
    pass

def data(threads=1):
    pass

def optimizer(learning_rate, ema=0.5):
    pass

def augment(example, rng, strength=1.0):
    pass
"""


@pytest.mark.parametrize(
    ('part', 'name', 'argument'),
    [
        ('evals.mine', 'Evaluator', 'every'),
        ('model', 'make_model', 'pretrained'),
        ('data', 'data', 'threads'),
        ('optimizer', 'optimizer', 'ema'),
    ],
)
def test_an_argument_with_the_name_of_a_reserved_key_is_refused(
    part, name, argument, tmp_path, monkeypatch
):
    (tmp_path / 'reserved_names.py').write_text(RESERVED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(importlib.sys.modules, 'reserved_names', raising=False)
    config = base_config()
    assert complete(config, {'augment.name': 'reserved_names:augment'}).augment.strength == 1.0
    with pytest.raises(
        UserError, match=f"has an argument '{argument}', which is a key that vitjax"
    ):
        complete(config, {f'{part}.name': f'reserved_names:{name}'})


def test_a_group_of_entries_can_be_emptied():
    config = base_config()
    config.evals = {'knn': {'name': 'knn'}}
    assert complete(config).evals.to_dict()
    for empty in ('{}', 'none', {}):
        assert complete(config, {'evals': empty}).evals.to_dict() == {}


def test_a_flax_module_is_no_evaluator():
    with pytest.raises(UserError, match='is not an evaluator'):
        registry.find('evaluator', 'flax.linen:Dense')
