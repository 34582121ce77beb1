"""A small folder of MarianMT: texts, tokenizer, and a model with random weights."""

import io
import json

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


def write_folder(folder, make_model):
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
    model = make_model(len(vocabulary))
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
    import torch
    import transformers

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


TEXTS = [
    *SOURCE[:6],
    *('', ' ', '  나는  학생\t가 ', 'unknown ⁇ ▁ 字', '>>eng<< 나는 물', '>>eng<<물 >>eng<<'),
    *('>>deu<<물', '>> 물 <<', '물\n물', '학생', 'ﬁ ①'),
]
