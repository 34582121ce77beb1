"""How much does locality, built in, save? CNN, hybrid, spatial attention and ViT by amount of data.

All have about 0.3M parameters and learn from 1%, 10% and 100% of Fashion-MNIST; each seed of the small
parts has training images of its own. Needs Debian's package dataset-fashion-mnist; --quick takes the
digits of scikit-learn.
"""

import sys
from pathlib import Path

import jax
from matplotlib.figure import Figure

import vitjax

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

RECIPE = Path(__file__).with_name('config.py')
MODELS = ('cnn', 'hybrid', 'spatial_attention', 'vit')
# Passes over all images, in less than 20 minutes each on two cores.
EPOCHS = {'cnn': 8, 'hybrid': 12, 'spatial_attention': 8, 'vit': 16}
STEPS = {1: 300, 10: 600}
DIGITS = harness.QUICK | {
    'data.name': 'digits',
    'data.path': None,
    'checkpoint.every': None,
}


def rows(options):
    """Test accuracy on the whole test set."""
    for percent in (10,) if options.quick else (1, 10, 100):
        for model in ('cnn', 'vit') if options.quick else MODELS:
            for seed in options.seeds[: 1 if percent == 100 else None]:
                first = seed * percent
                changes = {'data.train_split': f'train[{first}%:{first + percent}%]'}
                if percent == 100:
                    changes = {'epochs': EPOCHS[model]}
                elif options.quick:
                    changes |= DIGITS
                else:
                    steps = {'steps': STEPS[percent], 'schedule.warmup': STEPS[percent] // 10}
                    changes |= steps | {'checkpoint.every': None}
                run = f'{model}-{percent}'
                metrics, workdir = harness.train(options, f'{RECIPE}:{model}', run, seed, changes)
                params = vitjax.load(workdir).variables['params']
                yield {
                    'train images, %': percent,
                    'model': model,
                    'seed': seed,
                    'parameters': sum(x.size for x in jax.tree.leaves(params)),
                    'accuracy': metrics['accuracy'],
                    'minutes': metrics['seconds'] / 60,
                }


def draw(rows, options):
    """Test accuracy against the share of the training images."""
    figure = Figure(figsize=(6, 3.6), layout='constrained')
    axis = figure.subplots()
    for (model,), group in harness.cells(rows, ['model']).items():
        points = harness.cells(group, ['train images, %'])
        means, spreads = zip(
            *(harness.mean_and_spread(cell, 'accuracy') for cell in points.values()), strict=True
        )
        percents = [percent for (percent,) in points]
        axis.errorbar(percents, means, spreads, fmt='o-', capsize=2, label=model)
    axis.set(xscale='log', xlabel='training images, %', ylabel='test accuracy')
    axis.legend(frameon=False)
    return figure


if __name__ == '__main__':
    harness.main(
        __file__,
        rows,
        draw,
        by=['train images, %', 'model', 'parameters'],
        values=['accuracy', 'minutes'],
    )
