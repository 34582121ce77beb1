import json
import unicodedata
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

import vitjax
from vitjax.config import complete
from vitjax.errors import UserError
from vitjax.generation.translation import Translated
from vitjax.models.seq2seq import Transformer
from vitjax.tasks.translation import Translation
from vitjax.training.build import build_experiment

V = 11


@pytest.fixture(scope='module')
def model():
    model = Transformer(
        vocab_size=V, width=8, encoder_depth=1, decoder_depth=1, num_heads=2, mlp_dim=8
    )
    tokens = np.zeros((1, 2), int)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, tokens)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


def rows(*groups, length=12):
    """A batch with a row for each group of (source, target) lists of tokens."""
    batch = {'mask': np.ones(len(groups), bool)}
    for side, name in enumerate(('source', 'target')):
        tokens, segments, positions = np.zeros((3, len(groups), length), np.int32)
        for row, group in enumerate(groups):
            start = 0
            for number, pair in enumerate(group, 1):
                part = slice(start, start + len(pair[side]))
                tokens[row, part] = pair[side]
                segments[row, part] = number
                positions[row, part] = np.arange(len(pair[side]))
                start = part.stop
        batch |= {name: tokens, f'{name}_segment': segments, f'{name}_position': positions}
    return batch


PAIRS = [([5, 6, 3], [2, 7, 3]), ([4, 3], [2, 8, 9, 3]), ([9, 9, 9, 3], [2, 4, 3])]


def metrics(model, batch, train=False, **options):
    module, variables = model
    found, _ = jax.jit(
        lambda batch: Translation(**options).metrics(module, variables, batch, rngs={}, train=train)
    )(batch)
    return found


def test_packed_sentences_count_as_alone(model):
    alone = metrics(model, rows(*([pair] for pair in PAIRS)))
    packed = metrics(model, rows(PAIRS[:2], PAIRS[2:]))
    for name, total in alone.items():
        np.testing.assert_allclose(packed[name], total, rtol=1e-5)
    assert alone['loss'][1] == 2 + 3 + 2  # tokens after the first of each sentence


def test_a_row_that_is_masked_counts_nowhere(model):
    batch = rows(PAIRS[:2], PAIRS[2:])
    batch['mask'][1] = False
    found, expected = metrics(model, batch), metrics(model, rows(PAIRS[:2]))
    np.testing.assert_allclose(found['loss'], expected['loss'], rtol=1e-5)


def test_labels_are_smoothed_in_training_only(model):
    module, variables = model
    batch = rows(PAIRS[:1])
    logits = jax.jit(module.apply)(variables, np.array([[5, 6, 3]]), np.array([[2, 7]]))[0]
    labels = jax.nn.one_hot(np.array([7, 3]), V)
    for train, targets in ((True, optax.smooth_labels(labels, 0.3)), (False, labels)):
        loss = metrics(model, batch, train=train, label_smoothing=0.3)['loss']
        expected = optax.softmax_cross_entropy(logits, targets).sum()
        np.testing.assert_allclose(loss[0], expected, rtol=1e-5)


def test_an_evaluation_translates_a_sample(translator):
    last = json.loads((translator / 'metrics.jsonl').read_text().splitlines()[-1])
    assert last['examples'] == 72
    assert last['exact_match'] > 0.9
    assert 'bleu' in last  # 0 for so short sentences, which have no four words in a row
    assert last['chrf'] > 90


def test_references_count_as_the_model_has_learned_to_write_them(monkeypatch):
    target = unicodedata.normalize('NFD', '나는 학교에\u00a0간다  오늘 아침에')
    written = unicodedata.normalize('NFC', '나는 학교에 간다 오늘 아침에')
    found = [[Translated(written, 0.0)]]
    monkeypatch.setattr('vitjax.tasks.translation.translate', lambda *_, **__: found)
    pairs = [{'source': 'x', 'target': target}]
    data = SimpleNamespace(evaluation=pairs, references=pairs, preprocess=None)
    scores = Translation(sample=1).evaluate(None, None, data)
    assert scores == pytest.approx({'bleu': 100, 'chrf': 100, 'exact_match': 1})


def test_the_mean_of_checkpoints(translator):
    def parameters(**options):
        return jax.tree.leaves(vitjax.load(translator, **options).variables)

    newest, mean = parameters(), parameters(average=3)
    assert 0 < max(np.abs(a - b).max() for a, b in zip(newest, mean, strict=True)) < 0.5
    with pytest.raises(UserError, match='4 checkpoints to average, but there are 3'):
        vitjax.load(translator, average=4)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.vocab_size': '100'}, 'set it to config.text.vocab_size'),
        ({'task.label_smoothing': '1'}, 'config.task.label_smoothing: 1.0 is out of range'),
        ({'checkpoint.best': 'blue'}, "unknown metric 'blue'; did you mean 'bleu'?"),
        ({'model.name': 'vit_ti16'}, 'translation takes a model such as transformer_base'),
        ({'model.pretrained': 'runs/other'}, 'starts models of images, not translation'),
        (
            {'model.source_vocab_size': '9', 'model.share_embeddings': 'target'},
            'config.model.source_vocab_size is 9, but the tokenizer',
        ),
        ({'model.positions': 'learned', 'model.max_positions': '5'}, 'is less than config.text'),
        ({'task.sample': '0', 'checkpoint.best': 'bleu'}, "unknown metric 'bleu'"),
    ],
)
def test_mistakes_are_named(translation_config, changes, message):
    with pytest.raises(UserError, match=message.replace('?', r'\?')):
        build_experiment(complete(translation_config, changes))


def test_a_run_keeps_its_tokenizer(translation_config, translator):
    """Also where it is evaluated on, or goes on with, other sentences."""
    changed = complete(translation_config, {'data.train_split': 'train[:30%]'})
    tokenizers = [
        build_experiment(changed, run=run).data.preprocess.tokenizer for run in (None, translator)
    ]
    kept = vitjax.load(translator).preprocess.tokenizer
    assert [tokenizer.model == kept.model for tokenizer in tokenizers] == [False, True]


def test_evaluated_a_run_needs_no_sentences_to_train_on(translator, numbers, tmp_path, command):
    lines = ['\t'.join(pair) for pair in numbers]
    (tmp_path / 'test.tsv').write_text('\n'.join(lines))
    code, out, err = command('eval', '--workdir', translator, f'--config.data.path={tmp_path}')
    assert code == 0, err
    last = json.loads((translator / 'metrics.jsonl').read_text().splitlines()[-1])
    found = json.loads(out)
    assert found.pop('split') == last.pop('split')
    assert found == pytest.approx(last, rel=1e-4)


def test_images_are_not_given_to_a_translator(recipe):
    from vitjax.config import read_config

    with pytest.raises(UserError, match='classification takes a model of images'):
        build_experiment(read_config(str(recipe), {'model.name': 'transformer_tiny'}))
