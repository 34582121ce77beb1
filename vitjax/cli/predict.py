"""Prints the most likely labels of images, a line an image: file, then label and probability.

An image that cannot be read is an error, after which the others are answered.
"""

import argparse
import json
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument('--checkpoint', required=True, metavar='SOURCE', help="a run's folder")
    parser.add_argument('--top', type=int, default=5, help='how many labels (default 5)')
    parser.add_argument('--batch_size', type=int, default=32)
    parser.add_argument('--json', action='store_true', help='one JSON object a line')


def run(args: argparse.Namespace) -> int:
    import jax
    import numpy as np

    import vitjax
    from vitjax.errors import CorruptExample, UserError
    from vitjax.models.registry import translates

    if args.top < 1 or args.batch_size < 1:
        raise UserError('--top and --batch_size must be at least 1')
    # A file's name may hold what the terminal cannot show.
    sys.stdout.reconfigure(errors='backslashreplace')
    pretrained = vitjax.load(args.checkpoint)
    if translates(pretrained.model):
        raise UserError(f'{args.checkpoint} holds a model of sentences; use vitjax translate')
    model, labels = pretrained.model, pretrained.labels
    if not getattr(model, 'num_classes', 0):
        raise UserError(f'{args.checkpoint} has no classes; fine-tune it with configs/finetune.py')

    @jax.jit
    def probabilities(variables, images):
        return jax.nn.softmax(model.apply(variables, images))

    code = 0
    size = min(args.batch_size, len(args.images))
    for start in range(0, len(args.images), size):
        found = []
        for path in args.images[start : start + size]:
            try:
                found.append((path, pretrained.preprocess.pixels(path)))
            except CorruptExample as error:
                print(f'vitjax predict: error: {error}', file=sys.stderr, flush=True)
                code = 2
        if not found:
            continue
        images = np.stack([pixels for _, pixels in found])
        # The same shape for every batch, so that it compiles once.
        images = np.pad(images, [(0, size - len(images)), (0, 0), (0, 0), (0, 0)])
        images = pretrained.preprocess.normalise(images)
        for (path, _), scores in zip(
            found, np.asarray(probabilities(pretrained.variables, images)), strict=False
        ):
            best = [
                (labels[k] if labels else str(k), float(scores[k]))
                for k in np.argsort(-scores, kind='stable')[: args.top]
            ]
            if args.json:
                top = [{'label': label, 'probability': score} for label, score in best]
                print(json.dumps({'image': path, 'top': top}), flush=True)
            else:
                text = '  '.join(f'{label} {score:.3f}' for label, score in best)
                print(f'{path}  {text}', flush=True)
    return code
