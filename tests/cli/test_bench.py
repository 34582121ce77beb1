import json
import sys

import pytest

from vitjax.cli import main
from vitjax.planning import benchmark, decoding, measuring
from vitjax.planning.input_peers import INPUT_PEERS
from vitjax.planning.peers import PEERS

TINY = [
    *('--model', 'vit', '--image_size', '8', '--batch_size', '2', '--steps', '2'),
    *('--config.model.patch_size=4', '--config.model.width=8', '--config.model.num_heads=2'),
    *('--config.model.depth=1', '--config.data.threads=2', '--config.model.scan=true'),
]


@pytest.fixture(scope='module')
def measured():
    """The parsed output of `bench --json`; import times and reading speed are replaced by constants."""
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr('builtins.print', lambda text, **_: printed.append(text))
        patch.setattr(benchmark, 'seconds_to_import', lambda names, _: dict.fromkeys(names, 0.5))
        patch.setattr(benchmark, 'images_per_second', lambda batches, seconds: 123.0)
        assert main(['bench', *TINY, '--json', '--debug']) == 0
    return json.loads('\n'.join(printed))


@pytest.mark.slow
def test_bench_json_has_all_measurements(measured):
    assert measured['model'] == 'vit'
    assert measured['image_size'] == [8, 8]
    assert measured['batch_size'] == 2
    assert measured['import_seconds'] == {'jax': 0.5, 'vitjax': 0.5, 'models': 0.5}
    assert measured['first_step_seconds'].keys() == {'trace', 'compile', 'run'}
    assert measured['input']['images_per_second'] == {'median': 123, 'spread': 0}
    assert measured['input']['peers'].keys() == INPUT_PEERS.keys()
    assert measured['temporary_bytes'] > 0
    for name in ('forward', 'train_step'):
        found = dict(measured[name])
        peers = found.pop('peers')
        assert found.keys() == {'seconds', 'flops_per_second', 'share_of_matmul', 'per_second'}
        assert peers.keys() == {k for k, v in measured['peers'].items() if 'missing' not in v}
        for values in (
            *found.values(),
            *(times for peer in peers.values() for times in peer.values()),
        ):
            assert values['median'] > 0
            assert values['spread'] >= 0
    assert measured['peers'].keys() == {'timm', 'transformers'}


def test_bench_table(measured, monkeypatch, capsys):
    asked = []

    def measure(config, steps, with_input):
        asked.append((config.model.depth, steps, with_input))
        results = measured | {'peers': {peer: {'missing': 'why'} for peer in PEERS}}
        results |= {name: measured[name] | {'peers': {}} for name in ('forward', 'train_step')}
        results['input'] = measured['input'] | {'peers': {'timm': {'missing': 'why'}}}
        return {k: v for k, v in results.items() if with_input or not k.startswith('input')}

    monkeypatch.setattr(measuring, 'measure', measure)
    assert main(['bench', *TINY]) == 0
    table = capsys.readouterr().out
    assert main(['bench', *TINY, '--no_input']) == 0
    assert capsys.readouterr().out.splitlines() == table.splitlines()[:-2]
    assert asked == [(1, 2, True), (1, 2, False)]
    title, *rows = table.splitlines()
    assert title.startswith('vit, batch 2 of 8x8, float32, on 1 x ')
    assert [row[:36].strip() for row in rows] == [
        'import jax, flax.linen',
        'import vitjax',
        'import vitjax; vitjax.create_model',
        'first train step',
        'matmul 2048, float32',
        'forward',
        'train step',
        'its temporaries',
        *(f'not beside {peer}' for peer in PEERS),
        'input',
        'not beside timm',
    ]


def test_bench_table_compares_with_peers(measured, monkeypatch, capsys):
    middle = {'median': 2.0, 'spread': 0.25}
    beside = {'is': 'timm 1', 'largest_difference': 2.6e-7}
    times = {'peers': {'timm': {'seconds': middle, 'ratio': middle}}}
    results = measured | {'peers': {'timm': beside, 'transformers': {'missing': 'why'}}}
    results |= {name: measured[name] | times for name in ('forward', 'train_step')}
    read = {'is': 'timm 1', 'images_per_second': middle, 'ratio': middle}
    results['input'] = {'images_per_second': middle, 'peers': {'timm': read}}
    monkeypatch.setattr(measuring, 'measure', lambda *_, **__: results)
    assert main(['bench', *TINY]) == 0
    table = [' '.join(row.split()) for row in capsys.readouterr().out.splitlines()]
    assert table.count('of timm 2000.0 ms +- 25%, ratio 2.00 +- 25%') == 2
    assert 'beside timm timm 1; logits differ by 2.6e-07 of the largest' in table
    assert 'not beside transformers why' in table
    assert 'of timm 2 images/s +- 25%, ratio 2.00 +- 25%, timm 1' in table


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--model', 'vit_t16'], "unknown model 'vit_t16'; did you mean 'vit_ti16'?"),
        (['--image_size', '100'], 'patch height 16 does not divide image height 100'),
        (['--batch_size', '0'], 'config.batch_size: 0 is out of range'),
        (['--steps', '0'], '--steps must be at least 1, not 0'),
        (['--config.model.dept=3'], "'dept'; did you mean 'depth'?"),
    ],
)
def test_bench_reports_a_mistake_in_one_line(words, message, capsys):
    assert main(['bench', *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_bench_of_a_masked_autoencoder(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, 'seconds_to_import', lambda names, _: dict.fromkeys(names, 0.5))
    decoder = [f'--config.model.decoder_{name}' for name in ('width=8', 'depth=1', 'num_heads=2')]
    assert main(['bench', *TINY, *decoder, '--model', 'mae', '--no_input', '--json']) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured['model'], measured['unit']) == ('mae', 'images')
    missing = {'missing': 'MAE cannot be compared, only models that classify'}
    assert measured['peers'] == dict.fromkeys(PEERS, missing)
    assert measured['train_step']['seconds']['median'] > 0


TRANSLATOR = [
    *('--model', 'transformer_tiny', '--batch_size', '2', '--steps', '1', '--debug'),
    *('--config.model.width=8', '--config.model.num_heads=2', '--config.model.mlp_dim=8'),
    *('--config.model.encoder_depth=1', '--config.model.decoder_depth=1'),
    '--config.model.vocab_size=1000',
]


@pytest.mark.slow
def test_bench_of_a_translation_model(monkeypatch, capsys):
    def measure(names, rounds):
        del rounds
        return dict.fromkeys(names, 0.5)

    monkeypatch.setattr(benchmark, 'seconds_to_import', measure)
    monkeypatch.setattr(decoding, 'TOKENS', 3)
    with monkeypatch.context() as patch:
        # As if transformers were not installed: None in sys.modules makes the import fail.
        patch.setitem(sys.modules, 'transformers', None)
        assert main(['bench', *TRANSLATOR, '--json']) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured['unit'], measured['examples']) == ('tokens', '64 + 64 tokens')
    per_second = measured['train_step']['per_second']['median']
    seconds = measured['train_step']['seconds']['median']
    assert 2 * 64 < per_second * seconds <= 2 * 2 * 64  # packed rows: most tokens are not padding
    found = measured['decoding']
    assert found['peer'] == "none: transformers is not installed: pip install 'vitjax[peers]'"
    for name in ('greedy', 'beam search'):
        assert found[name].keys() == {'tokens_per_second'}
    monkeypatch.setattr(measuring, 'measure', lambda *args, **options: measured)
    assert main(['bench', *TRANSLATOR]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith('transformer_tiny, batch 2 of 64 + 64 tokens, float32, on 1 x ')
    names = [row[:36].strip() for row in rows]
    assert names[4:] == [
        *('matmul 2048, float32', 'forward', 'train step', 'its temporaries'),
        *('greedy', 'beam search of 4', 'its peer'),
    ]
    middle = {'median': 2, 'spread': 0.1}
    compared = {'tokens_per_second_of_peer': middle, 'ratio': middle}
    for name in ('greedy', 'beam search'):
        found[name] |= compared | {'same_tokens': 1.0}
    assert main(['bench', *TRANSLATOR]) == 0
    assert capsys.readouterr().out.count('ratio 2.00 +- 10%, 100% the same') == 2
