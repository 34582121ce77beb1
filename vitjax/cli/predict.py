"""Prints the predictions of a model for images, one line for each: file name and most likely labels.

If an image cannot be read, an error is printed and the other images are still predicted; the exit code
is then 2.
"""

import argparse
import io
import json
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files')
    parser.add_argument(
        '--checkpoint',
        required=True,
        metavar='SOURCE',
        help='folder of a run, or weights (see vitjax.load)',
    )
    parser.add_argument('--top', type=int, default=5, help='number of labels, default 5')
    parser.add_argument('--batch_size', type=int, default=32, help='default 32')
    parser.add_argument(
        '--allow_code',
        action='store_true',
        help='allow a run of the Hub or in a bucket to import code that is not part of vitjax',
    )
    parser.add_argument('--json', action='store_true', help='one JSON object a line')


def run(args: argparse.Namespace) -> int:
    import jax
    import numpy as np

    import vitjax
    from vitjax.errors import CorruptExample, UserError
    from vitjax.models.contract import call_options
    from vitjax.tasks import make_task

    if args.top < 1 or args.batch_size < 1:
        raise UserError('--top and --batch_size must be at least 1')
    # File names may contain characters that the terminal cannot encode.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    pretrained = vitjax.load(args.checkpoint, allow_code=args.allow_code)
    if hasattr(pretrained.preprocess, 'tokenizer'):
        raise UserError(f'{args.checkpoint} is a translation model; use vitjax translate')
    if not hasattr(pretrained.preprocess, 'pixels'):
        raise UserError(
            f'{args.checkpoint} is a model of other inputs than images; load it in Python with vitjax.load'
        )
    task = make_task(pretrained.info['config']['task'])
    task.check_predicts(pretrained.model, args.checkpoint)
    model, labels = pretrained.model, pretrained.labels

    @jax.jit
    def predict(variables, pixels):
        images = pretrained.preprocess.normalise(pixels)
        return task.predict(model.apply(variables, images, **call_options(model, False)))

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
        pixels = np.stack([pixels for _, pixels in found])  # [n, H, W, C]
        # All batches have the same shape, so that the model is compiled once.
        pixels = np.pad(pixels, [(0, size - len(pixels)), (0, 0), (0, 0), (0, 0)])
        predicted = jax.device_get(predict(pretrained.variables, pixels))
        for row, (path, _) in enumerate(found):
            one = {name: values[row] for name, values in predicted.items()}
            text, answer = task.answer(one, labels, args.top)
            print(
                json.dumps({'image': path} | answer) if args.json else f'{path}  {text}', flush=True
            )
    return code
