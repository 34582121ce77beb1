"""Draws the attention of a model over images, one row for each image.

A row has the image, then the image overlaid with attention maps. For a Vision Transformer, they show how
much each patch contributes to the vector that is classified: in the last block, and through all blocks
(attention rollout). For a CNN with spatial attention, they show the spatial attention of each stage.
"""

import argparse
from pathlib import Path

MAX_IMAGES = 100  # in one picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument(
        '--checkpoint',
        required=True,
        metavar='SOURCE',
        help='folder of a run, or weights (see vitjax.load)',
    )
    parser.add_argument(
        '--output', required=True, type=Path, metavar='PNG', help='picture to write'
    )


def run(args: argparse.Namespace) -> int:
    import functools

    import jax

    import vitjax
    from vitjax.analysis.attention import attention_maps, draw_attention
    from vitjax.analysis.drawing import check_picture
    from vitjax.errors import UserError
    from vitjax.models.contract import example_inputs
    from vitjax.protocols import HasFeatures

    if len(args.images) > MAX_IMAGES:
        raise UserError(
            f'{len(args.images)} images are too many for one picture, which holds at most {MAX_IMAGES}'
        )
    check_picture(args.output)
    pretrained = vitjax.load(args.checkpoint)
    if not hasattr(pretrained.preprocess, 'pixels'):
        raise UserError(
            f'{args.checkpoint} is a translation model; use vitjax translate --attention'
        )
    if not isinstance(pretrained.model, HasFeatures):
        raise UserError(
            f'{args.checkpoint}: a {type(pretrained.model).__name__} has no method features, whose '
            'attention is drawn'
        )
    # A model without attention is reported before images are read.
    maps = functools.partial(attention_maps, pretrained.model)
    sample = example_inputs(pretrained.model)
    try:
        jax.eval_shape(maps, pretrained.variables, *sample)
    except ValueError as error:
        raise UserError(f'{args.checkpoint}: {error}') from error
    draw_attention(pretrained, args.images, args.output)
    return 0
