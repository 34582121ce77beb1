"""Does a network see two places at once? Accuracy against their distance, for convolution and attention.

Two dots lie in a row of 48 pixels, at a distance d from each other. Each has one of three brightnesses,
a and b; the label is (a + b) mod 3, which one dot alone says nothing of. Features that never see both
dots are added up by the pooling, and the sum that minimises the cross-entropy is then the uniform
guess: loss log 3, accuracy about 1/3. A CNN of L convolutions of kernel 3 sees 2 L + 1 pixels, so it
should do better up to d = 2 L and no further; attention, at any d.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import vitjax
from vitjax.analysis import receptive_field

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

LENGTH = 48
RECIPE = Path(__file__).with_name('config.py')
ATTENTION = {
    'model.name': 'vit',
    'model.patch_size': (1, 4),
    'model.num_classes': 10,
    'model.width': 32,
    'model.depth': 2,
    'model.num_heads': 2,
    'model.pooling': 'mean',
    'steps': 700,
    'optimizer.learning_rate': 1e-2,
}


def rows(options):
    """Accuracy on dots at the distance that was trained on, for each model."""
    depths, distances, steps = (2, 3, 4), (2, 4, 5, 6, 7, 8, 9, 16), {}
    if options.quick:
        depths, distances, steps = (2,), (5,), harness.QUICK
    models = {f'CNN, {depth} layers': {'model.stage_depth': depth} for depth in depths}
    for distance in distances:
        for seed in options.seeds:
            folder = options.output / 'data' / f'{distance}-{seed}'
            parts = ('train', 'test')
            harness.write_images(folder, {part: dots(distance, part, seed) for part in parts})
            for name, changes in (models | {'attention': ATTENTION}).items():
                run = f'{name.replace(", ", "_").replace(" ", "_")}-{distance}'
                recipe = f'{RECIPE}:{folder}'
                metrics, workdir = harness.train(options, recipe, run, seed, changes | steps)
                seen = receptive_field(vitjax.load(workdir).model)[-1].size[1]
                yield {'model': name, 'distance': distance, 'seed': seed, 'sees': seen, **metrics}


def dots(distance: int, part: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 1, 48] with two dots at a distance, labels [N]."""
    count = {'train': 20_000, 'test': 2_000}[part]
    rng = np.random.default_rng([distance, count, seed])
    one, other = rng.integers(0, 3, (2, count))
    place, index = rng.integers(0, LENGTH - distance, count), np.arange(count)
    images = np.zeros((count, 1, LENGTH), np.uint8)
    images[index, 0, place] = 85 * (one + 1)
    images[index, 0, place + distance] = 85 * (other + 1)
    return images, (one + other) % 3


def draw(rows, options):
    """Accuracy against distance; a dashed line stands where a CNN's receptive field ends."""
    figure = Figure(figsize=(7, 3.6), layout='constrained')
    axis = figure.subplots()
    for (model,), group in harness.cells(rows, ['model']).items():
        points = harness.cells(group, ['distance'])
        means, spreads = zip(
            *(harness.mean_and_spread(cell, 'accuracy') for cell in points.values()), strict=True
        )
        distances = [distance for (distance,) in points]
        line = axis.errorbar(distances, means, spreads, fmt='o-', capsize=2, label=model)
        if group[0]['sees'] < LENGTH:
            axis.axvline(group[0]['sees'] - 0.5, color=line[0].get_color(), linestyle='--')
    axis.axhline(1 / 3, color='gray', linestyle=':', label='chance')
    axis.set(xlabel='distance in pixels', ylabel='test accuracy', ylim=(0.2, 1.03))
    axis.set_title('dashed: where the two dots no longer fit into the receptive field', fontsize=10)
    axis.legend(frameon=False, loc='center right')
    return figure


if __name__ == '__main__':
    harness.main(
        __file__,
        rows,
        draw,
        by=['model', 'distance'],
        values=['accuracy', 'loss', 'sees'],
    )
