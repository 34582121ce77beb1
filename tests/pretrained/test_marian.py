"""MarianMT folders as transformers writes and reads them."""

import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest

import vitjax as library
from vitjax.cli import main
from vitjax.data.text import TextPreprocess
from vitjax.errors import UserError
from vitjax.generation.translation import search, translate

torch = pytest.importorskip('torch', reason='compares with transformers, which needs PyTorch')
transformers = pytest.importorskip('transformers', reason='compares with transformers')

SOURCE = [
    f'{who} {what} {how}'
    for who in ('나는', '너는')
    for what in ('학생', '물')
    for how in '가나다라마'
]
TARGET = [line.translate(str.maketrans('나는학생물', 'iastw')) for line in SOURCE]
LENGTH = 24


def pieces_model(lines):
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 3),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return model.getvalue(), [processor.id_to_piece(i) for i in range(len(processor))]


def write_folder(folder, model):
    """What `save_pretrained` of model and tokenizer leaves."""
    folder.mkdir()
    (source, ours), (target, theirs) = pieces_model(SOURCE), pieces_model(TARGET)
    (folder / 'source.spm').write_bytes(source)
    (folder / 'target.spm').write_bytes(target)
    words = dict.fromkeys(['</s>', '<unk>', '>>eng<<', *ours[3:], *theirs[3:]])
    vocabulary = {word: number for number, word in enumerate([*words, '<pad>'])}
    (folder / 'vocab.json').write_text(json.dumps(vocabulary))
    options = {'source_lang': 'kor', 'target_lang': 'eng', 'tokenizer_class': 'MarianTokenizer'}
    (folder / 'tokenizer_config.json').write_text(json.dumps(options))
    model = model(len(vocabulary))
    model.save_pretrained(folder)
    return model


def random_model(vocab_size, generation=None, **changes):
    """A MarianMTModel whose sentences end sooner or later."""
    options = dict(
        vocab_size=vocab_size,
        decoder_vocab_size=vocab_size,
        d_model=16,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        activation_function='swish',
        scale_embedding=True,
        max_position_embeddings=40,
        eos_token_id=0,
        forced_eos_token_id=0,
        pad_token_id=vocab_size - 1,
        decoder_start_token_id=vocab_size - 1,
    )
    torch.manual_seed(0)
    model = transformers.MarianMTModel(transformers.MarianConfig(**options | changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'embed_positions' not in name:
                torch.nn.init.normal_(parameter, float('norm.weight' in name), 0.3)
        torch.nn.init.normal_(model.final_logits_bias)
        model.final_logits_bias[:, 0] = 2.5
    settings = {'max_length': LENGTH, 'bad_words_ids': [[vocab_size - 1]]}
    model.generation_config.update(**settings | (generation or {}))
    return model


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('marian') / 'opus-mt-ko-en'


@pytest.fixture(scope='module')
def theirs(folder):
    return write_folder(folder, random_model)


@pytest.fixture(scope='module')
def ours(folder, theirs):
    return library.load(folder)


def batch(ours, texts=SOURCE):
    tokens, mask = ours.preprocess(texts)
    tensors = torch.tensor(tokens, dtype=torch.long), torch.tensor(mask, dtype=torch.long)
    return tokens, mask, *tensors


def check_logits(ours, theirs):
    tokens, mask, input_ids, attention_mask = batch(ours)
    target = np.random.default_rng(0).integers(0, ours.model.vocab_size, (len(tokens), 9))
    with torch.no_grad():
        expected = theirs(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=torch.tensor(target),
        ).logits
    found = ours.model.apply(ours.variables, tokens, target, mask)
    np.testing.assert_allclose(found, expected, atol=2e-5)


VARIANTS = {
    'unscaled': dict(scale_embedding=False, activation_function='relu'),
    'separate': dict(share_encoder_decoder_embeddings=False, activation_function='gelu'),
    'untied': dict(tie_word_embeddings=False),
    'separate, untied, unscaled': dict(
        share_encoder_decoder_embeddings=False, tie_word_embeddings=False, scale_embedding=False
    ),
}


def test_logits(ours, theirs):
    check_logits(ours, theirs)


@pytest.mark.parametrize('changes', VARIANTS.values(), ids=VARIANTS)
def test_logits_of_variants(changes, tmp_path):
    theirs = write_folder(tmp_path / 'folder', lambda size: random_model(size, **changes))
    check_logits(library.load(tmp_path / 'folder'), theirs)


def test_every_name_of_a_shared_table_may_be_there(ours, theirs, folder, tmp_path):
    """As in pytorch_model.bin of older versions, which has the table of positions too."""
    copy = shutil.copytree(folder, tmp_path / 'copy')
    (copy / 'model.safetensors').unlink()
    state = theirs.state_dict()
    assert len(state) > len(library.load(folder).variables['params'])
    torch.save(state, copy / 'pytorch_model.bin')
    again = library.load(copy)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, ours.variables))
    state['lm_head.weight'] = state['lm_head.weight'] + 1
    torch.save(state, copy / 'pytorch_model.bin')
    with pytest.raises(UserError, match=r'shared.weight and lm_head.weight are one table, but'):
        library.load(copy)


TEXTS = [
    *SOURCE[:6],
    *('', ' ', '  나는  학생\t가 ', 'unknown ⁇ ▁ 字', '>>eng<< 나는 물', '>>eng<<물 >>eng<<'),
    *('>>deu<<물', '>> 물 <<', '물\n물', '학생', 'ﬁ ①'),
]


def test_tokens(ours, folder):
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


GENERATION = {
    'published': {'renormalize_logits': True},
    'plain': {'bad_words_ids': None, 'forced_eos_token_id': None},
    'long': {'length_penalty': 2.0, 'early_stopping': True, 'num_beams': 2},
}


@pytest.mark.slow
@pytest.mark.parametrize('generation', GENERATION.values(), ids=GENERATION)
def test_translations(generation, tmp_path):
    folder = tmp_path / 'folder'
    theirs = write_folder(folder, lambda size: random_model(size, generation))
    ours = library.load(folder)
    tokens, mask, input_ids, attention_mask = batch(ours)
    for beams in (1, 4) if 'renormalize_logits' in generation else (4,):
        with torch.no_grad():
            expected = theirs.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                num_beams=beams,
                num_return_sequences=beams,
            )[:, 1:]
        found = search(ours.model, ours.variables, ours.preprocess, tokens, mask, beams, beams)
        found = np.asarray(found.tokens).reshape(-1, LENGTH - 1)
        padded = np.full_like(found, ours.preprocess.pad)
        padded[:, : expected.shape[1]] = expected
        np.testing.assert_array_equal(found, padded)
    assert len(set((found == 0).argmax(axis=1).tolist())) > 1  # sentences of several lengths


def test_translate_writes_what_transformers_does(folder, theirs, capsys):
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    inputs = tokenizer(SOURCE, return_tensors='pt', padding=True)
    with torch.no_grad():
        rows = theirs.generate(**inputs, num_beams=4)
    expected = tokenizer.batch_decode(rows, skip_special_tokens=True)
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
def test_bad_folders(folder, theirs, tmp_path, damage, message):
    copy = shutil.copytree(folder, tmp_path / 'copy')
    damage(copy)
    with pytest.raises(UserError, match=message) as error:
        library.load(copy)
    assert '\n' not in str(error.value)


def test_what_is_not_followed_is_said(folder, theirs, tmp_path, caplog):
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
def test_languages(folder, theirs, tmp_path, damage, languages):
    copy = shutil.copytree(folder, tmp_path / 'opus-mt-ko-en')
    (copy / 'tokenizer_config.json').unlink()
    damage(copy)
    assert library.load(copy).preprocess.languages == languages


def test_damaged_search_rules(ours, tmp_path):
    ours.preprocess.save(tmp_path)
    change('text.json', search={'beams': 4})(tmp_path)
    with pytest.raises(UserError, match=r'text.json is damaged'):
        TextPreprocess.load(tmp_path)


def test_a_long_text_is_translated_in_parts(ours):
    found = translate(
        ours.model, ours.variables, ours.preprocess, ['나는 학생 가. ' * 40], batch_size=4
    )
    assert len(found[0]) == 1
