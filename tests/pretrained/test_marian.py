"""MarianMT folders as transformers writes and reads them."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import recorded
from marian_folder import SOURCE, TEXTS

import vitjax as library
from vitjax.cli import main
from vitjax.data.text import TextPreprocess
from vitjax.errors import UserError
from vitjax.generation.translation import translate


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return recorded.write('marian', 'shared', tmp_path_factory.mktemp('marian') / 'opus-mt-ko-en')


@pytest.fixture(scope='module')
def theirs(folder):
    """The same model in transformers."""
    pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    return transformers.MarianMTModel.from_pretrained(folder).eval()


@pytest.fixture(scope='module')
def ours(folder):
    return library.load(folder)


def test_every_name_of_a_shared_table_may_be_there(ours, theirs, folder, tmp_path):
    """As in pytorch_model.bin of older versions, which has the table of positions too."""
    copy = shutil.copytree(folder, tmp_path / 'copy')
    (copy / 'model.safetensors').unlink()
    torch = pytest.importorskip('torch', reason="needs pip install 'vitjax[peers]'")
    state = theirs.state_dict()
    assert len(state) > len(library.load(folder).variables['params'])
    torch.save(state, copy / 'pytorch_model.bin')
    again = library.load(copy)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, ours.variables))
    state['lm_head.weight'] = state['lm_head.weight'] + 1
    torch.save(state, copy / 'pytorch_model.bin')
    with pytest.raises(UserError, match=r'shared.weight and lm_head.weight are one table, but'):
        library.load(copy)


def test_tokens(ours, folder):
    transformers = pytest.importorskip('transformers', reason="needs pip install 'vitjax[peers]'")
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    preprocess = ours.preprocess
    assert preprocess.tokenizer.size == tokenizer.vocab_size
    assert (preprocess.languages, preprocess.max_length) == (('kor', 'eng'), 40)
    encoded = preprocess.tokenizer.encode_all(TEXTS)
    assert [[*tokens, preprocess.eos] for tokens in encoded] == tokenizer(TEXTS).input_ids
    assert encoded == [preprocess.tokenizer.encode(text) for text in TEXTS]
    assert preprocess.pieces(encoded[10])[0] == '>>eng<<'
    for row in np.random.default_rng(0).integers(0, preprocess.tokenizer.size, (20, 12)):
        expected = tokenizer.decode(row, skip_special_tokens=True)
        assert preprocess.tokenizer.decode(row) == expected


def test_lone_surrogates_are_replaced(ours):
    tokenizer = ours.preprocess.tokenizer
    assert tokenizer.encode('물 \ud800') == tokenizer.encode('물 \ufffd')


@pytest.mark.slow
def test_translate_writes_what_transformers_does(folder, capsys):
    expected = recorded.read('marian')[1]['shared']['translations']
    assert main(['translate', '--checkpoint', str(folder), '--debug', *SOURCE]) == 0
    assert capsys.readouterr().out.splitlines() == [' '.join(line.split()) for line in expected]


def test_save_and_load(ours, tmp_path):
    library.save(ours, tmp_path / 'saved')
    again = library.load(tmp_path / 'saved')
    assert again.model == ours.model
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, ours.variables))
    assert again.preprocess.search == ours.preprocess.search
    texts = SOURCE[:2]
    for found in (again, dataclasses.replace(ours)):
        assert found.preprocess.tokenizer.encode_all(texts) == ours.preprocess.tokenizer.encode_all(
            texts
        )


def change(name, **values):
    def damage(folder):
        old = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**old, **values}))

    return damage


def without(name):
    return lambda folder: (folder / name).unlink()


def content(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (without('source.spm'), r'cannot read .*source.spm: No such file'),
        (without('target.spm'), r'cannot read .*target.spm: No such file'),
        (without('vocab.json'), r'cannot read .*vocab.json: No such file'),
        (without('config.json'), 'does not tell num_heads and activation'),
        (content('target.spm', 'no model'), 'not a model of sentencepiece'),
        (content('vocab.json', '[]'), r'vocab.json is damaged: it holds no object'),
        (content('vocab.json', '{"</s>": 0}'), 'it has no <unk> and no <pad>'),
        (content('vocab.json', '{"</s>": "0"}'), 'each piece has a number'),
        (change('vocab.json', more=1000), r'tokens up to 1000, but the embeddings of .* end at'),
        (change('config.json', pad_token_id=3), r'says pad_token_id=3, vocab.json has it at'),
        (change('config.json', d_model=32), r'config says width=32, the tensors say 16'),
        (change('config.json', decoder_layers=1), 'config says decoder_depth=1, the tensors say 3'),
        (
            change('config.json', encoder_attention_heads=4),
            'decoder_attention_heads=2 must be equal',
        ),
        (change('config.json', encoder_ffn_dim=32), 'decoder_ffn_dim=24 must be equal'),
        (change('config.json', activation_function='swis'), "did you mean 'swish'"),
        (change('config.json', encoder_attention_heads=3, decoder_attention_heads=3), 'num_heads'),
        (change('config.json', tie_word_embeddings=False), 'has no tensor lm_head.weight'),
        (change('config.json', max_position_embeddings='x'), 'max_position_embeddings'),
        (change('tokenizer_config.json', separate_vocabs=True), 'has two vocabularies'),
        (change('generation_config.json', bad_words_ids=[[3, 4]]), 'words of several tokens'),
        (change('generation_config.json', forced_eos_token_id=7), 'is 7, not the end 0'),
        (change('generation_config.json', early_stopping='no'), "early_stopping is 'no'"),
        (change('generation_config.json', length_penalty='x'), 'is damaged: could not convert'),
    ],
)
def test_bad_folders(folder, tmp_path, damage, message):
    copy = shutil.copytree(folder, tmp_path / 'copy')
    damage(copy)
    with pytest.raises(UserError, match=message) as error:
        library.load(copy)
    assert '\n' not in str(error.value)


def test_what_is_not_followed_is_said(folder, tmp_path, caplog):
    copy = shutil.copytree(folder, tmp_path / 'copy')
    change('generation_config.json', no_repeat_ngram_size=3)(copy)
    library.load(copy)
    assert 'no_repeat_ngram_size=3' in caplog.text


@pytest.mark.parametrize(
    ('damage', 'languages'),
    [
        (lambda folder: None, ('ko', 'en')),
        (change('config.json', _name_or_path='Helsinki-NLP/opus-mt-tc-big-en-ko'), ('en', 'ko')),
        (change('config.json', _name_or_path='mine'), ('source', 'target')),
    ],
)
def test_languages(folder, tmp_path, damage, languages):
    copy = shutil.copytree(folder, tmp_path / 'opus-mt-ko-en')
    (copy / 'tokenizer_config.json').unlink()
    damage(copy)
    assert library.load(copy).preprocess.languages == languages


def test_damaged_search_rules(ours, tmp_path):
    ours.preprocess.save(tmp_path)
    change('text.json', search={'beams': 4})(tmp_path)
    with pytest.raises(UserError, match=r'text.json is damaged'):
        TextPreprocess.load(tmp_path)


@pytest.mark.slow
def test_a_long_text_is_translated_in_parts(ours):
    found = translate(
        ours.model, ours.variables, ours.preprocess, ['나는 학생 가. ' * 40], batch_size=4
    )
    assert len(found[0]) == 1
