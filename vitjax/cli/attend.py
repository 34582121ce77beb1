"""Draws where a model looks in images: a row an image, itself first, then attention laid over it.

Of a Vision Transformer, what reaches the vector that it classifies: in the last block, and through all
blocks (attention rollout). Of a CNN with spatial attention, the importance of the pixels at each stage.
"""

import argparse
from pathlib import Path

MOST = 100  # images that one picture holds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument('--checkpoint', required=True, metavar='SOURCE', help="a run's folder")
    parser.add_argument('--output', required=True, type=Path, metavar='PNG', help='the picture')


def run(args: argparse.Namespace) -> int:
    import functools

    import jax

    import vitjax
    from vitjax.analysis.attention import attention_maps, draw_attention
    from vitjax.analysis.drawing import check_picture
    from vitjax.errors import UserError
    from vitjax.models.contract import example_inputs

    if len(args.images) > MOST:
        raise UserError(f'{len(args.images)} images are too many for one picture of {MOST}')
    check_picture(args.output)
    pretrained = vitjax.load(args.checkpoint)
    if not hasattr(pretrained.preprocess, 'pixels'):
        raise UserError(
            f'{args.checkpoint} holds a model of sentences; use vitjax translate --attention'
        )
    # Before images are read: not every model has attention.
    maps, sample = (
        functools.partial(attention_maps, pretrained.model),
        example_inputs(pretrained.model),
    )
    try:
        jax.eval_shape(maps, pretrained.variables, *sample)
    except ValueError as error:
        raise UserError(f'{args.checkpoint}: {error}') from error
    draw_attention(pretrained, args.images, args.output)
    return 0
