"""Converts weights to another format, and optionally to another size or number of classes.

DEST is a new folder, in which the config files of the format are written too, or a new weights file with
the ending of the format (.npz, .safetensors).
"""

import argparse
from pathlib import Path

_SIZES = {
    'image_size': 'in pixels: 384, or 224,160 for height and width',
    'patch_size': 'in pixels: 16, or 16,8 for height and width',
    'num_classes': 'replaces the head by one of zeros; 0 for no head',
    'in_channels': '1 converts weights for RGB to grayscale',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'source', metavar='SOURCE', help='folder of a run, or weights of any known layout'
    )
    parser.add_argument('dest', metavar='DEST', type=Path, help='new folder or file')
    parser.add_argument(
        '--format',
        required=True,
        metavar='F',
        help='vitjax, google, timm, huggingface; or stablehlo, onnx to run without vitjax',
    )
    for name, text in _SIZES.items():
        parser.add_argument(f'--{name}', help=text)
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='a value that the source does not specify, such as num_heads=6 or mean=0.5; may be repeated',
    )


def run(args: argparse.Namespace) -> int:
    import vitjax
    from vitjax.config.keys import PREPROCESSING, Data
    from vitjax.config.types import parse, signature
    from vitjax.errors import UserError, unknown
    from vitjax.models.registry import MODELS

    texts = {name: getattr(args, name) for name in _SIZES if getattr(args, name) is not None}
    for words in args.set:
        name, equals, text = words.partition('=')
        if not equals:
            raise UserError(f'--set {words}: write NAME=VALUE')
        if name in texts:
            raise UserError(f'{name} is given twice')
        texts[name] = text
    known = {name: signature(Data)[name] for name in PREPROCESSING}
    for model in (*MODELS.values(), MODELS['vit']):  # ViT's types take precedence
        known |= signature(model)
    for name in texts.keys() - known.keys():
        raise unknown('argument of a model', name, known)
    overrides = {
        name: parse(f'--{name}' if name in _SIZES else f'--set {name}', known[name][0], text)
        for name, text in texts.items()
    }
    pretrained = vitjax.load(args.source, **overrides)
    vitjax.save(pretrained, args.dest, format=args.format)
    return 0
