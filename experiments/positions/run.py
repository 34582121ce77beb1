"""What each encoding of positions knows of order, and how far it carries beyond the training length.

`order`: a dim and a bright dot in a row of 24 pixels; is the bright one left or right? Tested
on rows of 24 and of 48 pixels. `digits`: images of 8x8 pixels in patches of 2; tested at 8x8 and enlarged to
12x12. A learned table is resampled to the longer row or larger grid (cubic, antialiased), so it never
leaves the range that it has learned; the others go on beyond it. In a row, half of the features of
`sincos2d` and of `rotary` (two axes) stand still.
"""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import vitjax
from vitjax.data.sources import open_source
from vitjax.layers.patches import grid_size
from vitjax.layers.resampling import resample

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

ENCODINGS = ('none', 'learned', 'sinusoidal', 'sincos2d', 'sincos2d_mae', 'rotary')
ORDER = Path(__file__).with_name('config.py')
DIGITS = Path(__file__).parents[2] / 'configs/digits.py'


def rows(options):
    """Accuracy at the size of training, and at a larger one."""
    order = harness.QUICK if options.quick else {}
    digits = {'steps': 500, 'schedule.warmup': 50, 'eval.every': None, 'checkpoint.every': None}
    folder = options.output / 'data'
    harness.write_images(folder, {part: dots(24, part) for part in ('train', 'test')})
    tasks = {'order': (f'{ORDER}:{folder}', order, (1, 48))}
    if not options.quick:
        tasks['digits'] = (DIGITS, digits, (12, 12))
    for task, (recipe, changes, larger) in tasks.items():
        for encoding in ('learned', 'rotary') if options.quick else ENCODINGS:
            for seed in options.seeds:
                chosen = changes | {'model.positions': encoding}
                metrics, workdir = harness.train(
                    options, recipe, f'{task}-{encoding}', seed, chosen
                )
                if task == 'order':
                    images, labels = dots(48, 'test')
                    images = images[..., None]
                else:
                    source = open_source('digits', 'test')
                    images = [source[index]['image'] for index in range(len(source))]
                    labels = [source[index]['label'] for index in range(len(source))]
                yield {
                    'task': task,
                    'positions': encoding,
                    'seed': seed,
                    'accuracy': metrics['accuracy'],
                    'accuracy_larger': accuracy_at(workdir, larger, images, labels),
                }


def dots(length: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 1, length] with a dim and a bright dot, labels [N]: 1 if the bright one is left."""
    count = {'train': 20_000, 'test': 2_000}[part]
    rng = np.random.default_rng([length, count])
    places = rng.permuted(np.tile(np.arange(length), (count, 1)), axis=1)[:, :2]
    images, index = np.zeros((count, 1, length), np.uint8), np.arange(count)
    images[index, 0, places[:, 0]], images[index, 0, places[:, 1]] = 128, 255
    return images, (places[:, 1] < places[:, 0]).astype(np.uint8)


def accuracy_at(workdir, size, images, labels):
    """Accuracy of a trained model that is run at another image size."""
    trained = vitjax.load(workdir)
    model = trained.model.copy(image_size=size)
    params = dict(trained.variables['params'])
    if 'positions' in params:
        old, new = (grid_size(m.image_size, m.patch_size) for m in (trained.model, model))
        prefix, table = np.split(params['positions'], [-old[0] * old[1]], axis=1)
        table = resample(table, old, new, 'cubic_antialias')
        params['positions'] = np.concatenate([prefix, table], axis=1)
    preprocess = dataclasses.replace(trained.preprocess, image_size=size)
    logits = jax.jit(model.apply)({'params': params}, preprocess(list(images)))
    return float((np.asarray(logits.argmax(-1)) == labels).mean())


def draw(rows, options):
    """A bar for each encoding and size."""
    figure = Figure(figsize=(9, 3.4), layout='constrained')
    tasks = harness.cells(rows, ['task'])
    for axis, ((task,), group) in zip(
        figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(), strict=True
    ):
        encodings = harness.cells(group, ['positions'])
        for shift, value in ((-0.2, 'accuracy'), (0.2, 'accuracy_larger')):
            means, spreads = zip(
                *(harness.mean_and_spread(cell, value) for cell in encodings.values()), strict=True
            )
            place = np.arange(len(means)) + shift
            axis.bar(place, means, 0.4, yerr=spreads, capsize=2, label=value.replace('_', ', '))
        names = [name.replace('sin', 'sin-\n', 1) for (name,) in encodings]
        axis.set_xticks(range(len(names)), names, fontsize=8)
        axis.axhline(0.5 if task == 'order' else 0.1, color='gray', linestyle=':')
        axis.set(title=f'{task} (dotted: chance)', ylim=(0, 1))
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, loc='outside lower center', ncols=2, frameon=False, fontsize=8)
    return figure


if __name__ == '__main__':
    harness.main(
        __file__,
        rows,
        draw,
        by=['task', 'positions'],
        values=['accuracy', 'accuracy_larger'],
    )
