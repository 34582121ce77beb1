"""Measures import, first step, step and input of a model on this machine.

Times are medians; +- is the interquartile range. Forward pass and train step are timed in turn with a
large square matrix product. Their share of its rate is the ratio of FLOPs a second within a round; only
matrix products and convolutions count, and a train step counts as three forward passes. A Vision
Transformer is also timed in turn with the same model in timm and transformers, if they are installed and
have it, and the reading of images in turn with timm and TensorFlow; a ratio above 1 means that vitjax is
faster. A masked autoencoder is measured on its own task. For a translation model, greedy and beam search
are measured instead of input, in turn with transformers. Every value of the config can be set:
--config.precision.compute=bfloat16, --config.model.scan=true.
"""

import argparse
import json
import tempfile
from pathlib import Path

PHOTOGRAPH = (375, 500)  # height and width of the images that are read, common in ImageNet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--model', default='vit_ti16', metavar='NAME', help='default vit_ti16')
    parser.add_argument('--batch_size', type=int, default=8, help='default 8')
    parser.add_argument('--image_size', type=int, default=224, help='in pixels, default 224')
    parser.add_argument('--steps', type=int, default=10, help='number of timed steps, default 10')
    parser.add_argument(
        '--no_input', action='store_true', help='do not measure the reading of images'
    )
    parser.add_argument('--json', action='store_true', help='one JSON object')
    parser.set_defaults(config=None)  # enables --config.KEY=VALUE


def run(args: argparse.Namespace) -> int:
    from vitjax.config import complete
    from vitjax.errors import UserError
    from vitjax.models.registry import create_model
    from vitjax.planning import measuring
    from vitjax.planning.benchmark import write_photographs
    from vitjax.protocols import Decodes

    if args.steps < 1:
        raise UserError(f'--steps must be at least 1, not {args.steps}')
    model = create_model(args.model)
    with tempfile.TemporaryDirectory() as folder:
        config = _sentences(args) if isinstance(model, Decodes) else _images(args, model, folder)
        config.update(batch_size=args.batch_size, steps=args.steps)
        config = complete(config, args.overrides)
        if not isinstance(model, Decodes):
            write_photographs(Path(folder), 2 if args.no_input else 32, PHOTOGRAPH)
        results = measuring.measure(config, args.steps, with_input=not args.no_input)
    print(json.dumps(results) if args.json else _table(results))
    return 0


def _images(args: argparse.Namespace, model, folder: str):
    from vitjax.config import base_config
    from vitjax.protocols import HasEncoder

    config = base_config()
    config.model.update(name=args.model, image_size=args.image_size)
    if isinstance(model, HasEncoder):
        config.task.name = 'masked_autoencoding'
    else:
        config.model.num_classes = 2
    config.data.update(name='folder', path=folder, eval_split='train', interpolation='bilinear')
    config.augment.update(crop=(0.08, 1.0), flip=True)
    return config


def _sentences(args: argparse.Namespace):
    """Packed sentences of the phrasebook; positions and norms of MarianMT, for the comparison."""
    from vitjax.config import base_config
    from vitjax.models.seq2seq import SENTENCE

    config = base_config()
    config.task.name = 'translation'
    config.model.update(name=args.model, positions='sinusoidal_halves', norm_epsilon=1e-5)
    config.data.update(name='phrasebook', train_split='train[:2000]', eval_split='valid[:8]')
    config.text.update(languages=('ko', 'en'), vocab_size=1000, max_length=SENTENCE)
    return config


def _table(results: dict) -> str:
    """The results as a table: name, value, and details or a comparison."""
    from vitjax.planning.measuring import IMPORTS

    imports = results['import_seconds']
    first, matmul = results['first_step_seconds'], results['matmul']
    gigaflops = matmul['flops_per_second']
    rows = [
        (IMPORTS[name], f'{seconds:.2f} s', f'{seconds / imports["jax"]:.2f} of the first')
        for name, seconds in imports.items()
    ]
    rows += [
        (
            'first train step',
            f'{sum(first.values()):.2f} s',
            ', '.join(f'{part} {seconds:.2f}' for part, seconds in first.items()),
        ),
        (
            f'matmul {matmul["side"]}, float32',
            f'{gigaflops["median"] / 1e9:.1f} GFLOP/s',
            f'+- {gigaflops["spread"]:.0%}',
        ),
    ]
    for name in ('forward', 'train_step'):
        seconds, share = results[name]['seconds'], results[name]['share_of_matmul']
        rate = results[name]['per_second']['median']
        more = (
            f'+- {seconds["spread"]:.0%}, {rate:.1f} {results["unit"]}/s, '
            f'{share["median"]:.0%} of matmul +- {share["spread"]:.0%}'
        )
        rows.append((name.replace('_', ' '), f'{1000 * seconds["median"]:.1f} ms', more))
        for peer, found in results[name]['peers'].items():
            seconds = found['seconds']
            more = f'+- {seconds["spread"]:.0%}, {_ratio(found["ratio"])}'
            rows.append((f'  of {peer}', f'{1000 * seconds["median"]:.1f} ms', more))
    rows.append(('its temporaries', f'{results["temporary_bytes"] / 2**20:.1f} MiB', ''))
    for peer, found in results.get('peers', {}).items():
        if 'missing' in found:
            rows.append((f'not beside {peer}', '', found['missing']))
        else:
            difference = found['largest_difference']
            more = f'{found["is"]}; logits differ by {difference:.1e} of the largest'
            rows.append((f'beside {peer}', '', more))
    if 'input' in results:
        rows += _input(results['input'])
    if 'decoding' in results:
        rows += _decoding(results['decoding'])
    title = (
        f'{results["model"]}, batch {results["batch_size"]} of {results["examples"]}, '
        f'{results["compute"]}, on {len(results["devices"])} x {results["devices"][0]}'
    )
    lines = [f'{what:<36}{much:>18}   {more}'.rstrip() for what, much, more in rows]
    return '\n'.join([title, *lines])


def _input(results: dict) -> list[tuple[str, str, str]]:
    """Rows of the table for the reading of images."""
    rate = results['images_per_second']
    height, width = PHOTOGRAPH
    made_of = f'JPEG of {width}x{height}, decoded, cropped at random, flipped'
    rows = [('input', f'{rate["median"]:.0f} images/s', f'+- {rate["spread"]:.0%}, {made_of}')]
    for peer, found in results['peers'].items():
        if 'missing' in found:
            rows.append((f'  not beside {peer}', '', found['missing']))
        else:
            rate = found['images_per_second']
            more = f'+- {rate["spread"]:.0%}, {_ratio(found["ratio"])}, {found["is"]}'
            rows.append((f'  of {peer}', f'{rate["median"]:.0f} images/s', more))
    return rows


def _ratio(ratio: dict) -> str:
    return f'ratio {ratio["median"]:.2f} +- {ratio["spread"]:.0%}'


def _decoding(results: dict) -> list[tuple[str, str, str]]:
    """Rows of the table for decoding."""
    rows = []
    for name, beams in (('greedy', ''), ('beam search', f' of {results["beams"]}')):
        found = results[name]
        rate = found['tokens_per_second']
        more = f'+- {rate["spread"]:.0%}, {results["tokens"]} tokens each'
        if 'ratio' in found:
            peer, ratio = found['tokens_per_second_of_peer'], found['ratio']
            more += f'; peer {peer["median"]:.1f} +- {peer["spread"]:.0%}, {_ratio(ratio)}'
            more += f', {found["same_tokens"]:.0%} the same'
        rows.append((name + beams, f'{rate["median"]:.1f} tokens/s', more))
    return [*rows, ('its peer', '', results['peer'])]
