"""Translates texts, or the lines of stdin, and prints one line for each in the same order.

An empty line stays empty. With --n_best N, N lines are printed for each text. A text that is longer than
the model's maximum length is translated sentence by sentence.
"""

import argparse
import io
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('texts', nargs='*', metavar='TEXT', help='default: the lines of stdin')
    parser.add_argument(
        '--checkpoint',
        required=True,
        metavar='SOURCE',
        help='folder of a run, or weights (see vitjax.load)',
    )
    parser.add_argument('--beam_size', type=int, default=4, help='default 4; 1 is greedy search')
    parser.add_argument(
        '--n_best', type=int, default=1, help='number of translations of each text, default 1'
    )
    parser.add_argument('--batch_size', type=int, default=32, help='default 32')
    parser.add_argument(
        '--average',
        type=int,
        default=1,
        metavar='N',
        help='average the parameters of the last N checkpoints',
    )
    parser.add_argument('--json', action='store_true', help='one JSON object a text, with scores')
    parser.add_argument(
        '--attention',
        type=Path,
        metavar='PNG',
        help='draw the cross-attention of the first text',
    )


def run(args: argparse.Namespace) -> int:
    from vitjax.errors import UserError

    if min(args.beam_size, args.batch_size, args.average) < 1:
        raise UserError('--beam_size, --batch_size and --average must be at least 1')
    if not 1 <= args.n_best <= args.beam_size:
        raise UserError(f'--n_best must be from 1 to --beam_size, which is {args.beam_size}')

    import vitjax
    from vitjax.generation.translation import translate
    from vitjax.protocols import Decodes

    # Checked before the model is loaded, so that mistakes are reported at once.
    texts = _checked(args.texts)
    if args.attention:
        from vitjax.analysis.alignment import draw_alignment, font_for
        from vitjax.analysis.drawing import check_picture

        check_picture(args.attention)
        font_for(''.join(texts))
    pretrained = vitjax.load(args.checkpoint, average=args.average)
    if not isinstance(pretrained.model, Decodes):
        raise UserError(f'{args.checkpoint} is not a translation model')
    model, variables, preprocess = pretrained.model, pretrained.variables, pretrained.preprocess

    def translate_and_print(texts: list[str]) -> None:
        found = translate(
            model,
            variables,
            preprocess,
            texts,
            beam_size=args.beam_size,
            n_best=args.n_best,
            batch_size=args.batch_size,
        )
        for text, best in zip(texts, found, strict=True):
            if args.json:
                row = [one._asdict() for one in best]
                print(json.dumps({'source': text, 'translations': row}, ensure_ascii=False))
            else:
                for one in best:
                    print(' '.join(one.text.split()))
        sys.stdout.flush()

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding='utf-8', errors='backslashreplace')
    drawn = ''  # the first text that is not empty
    # Chunks are large enough to fill batches of similar lengths, and small enough to print results soon.
    for chunk in [texts] if texts else _chunks(_lines(), 8 * args.batch_size):
        if args.attention and not drawn:
            drawn = next(filter(str.strip, chunk), '')
            font_for(drawn)
        translate_and_print(chunk)
    if args.attention:
        if not drawn:
            raise UserError('--attention: there is no text to draw')
        draw_alignment(pretrained, drawn, args.attention)
    return 0


def _chunks(lines: Iterator[str], size: int) -> Iterator[list[str]]:
    """Lists of `size` lines; the last may be shorter."""
    while chunk := list(itertools.islice(lines, size)):
        yield chunk


def _checked(texts: list[str]) -> list[str]:
    """Returns the texts; UserError if one is not UTF-8, which Python's argv shows as lone surrogates."""
    from vitjax.errors import UserError

    for number, text in enumerate(texts, 1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f'text {number} is not UTF-8 at character {error.start + 1}') from None
    return texts


def _lines() -> Iterator[str]:
    """The lines of stdin, without line endings."""
    from vitjax.errors import UserError

    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            # Files from Windows may start with a byte order mark.
            yield line.decode().removeprefix('\ufeff' if number == 1 else '').rstrip('\r\n')
        except UnicodeDecodeError as error:
            raise UserError(
                f'stdin: line {number} is not UTF-8 at byte {error.start + 1}'
            ) from None
