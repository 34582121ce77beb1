"""What the size of the patches costs and gives: accuracy, FLOPs and time on the digits of 8x8 pixels."""

import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import vitjax
from vitjax.layers.patches import as_pair, grid_size
from vitjax.planning.benchmark import seconds_in_turn
from vitjax.planning.flops import model_cost

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

RECIPE = Path(__file__).parents[2] / 'configs/digits.py'
BATCH = 256


def rows(options):
    """Test accuracy of the digits recipe, FLOPs an image and milliseconds a batch, forward."""
    patches = [(8, 8), (4, 4), (2, 4), (4, 2), (2, 2), (1, 2), (1, 1)]
    steps, depth = 500, 4
    if options.quick:
        patches, steps, depth = [(8, 8), (4, 2)], 20, 1
    measured = []
    for patch in patches:
        for seed in options.seeds:
            changes = {
                'model.patch_size': patch,
                'model.depth': depth,
                'steps': steps,
                'schedule.warmup': steps // 10,
                'eval.every': None,
                'checkpoint.every': None,
            }
            run = f'{patch[0]}x{patch[1]}'
            metrics, workdir = harness.train(options, RECIPE, run, seed, changes)
            measured.append((patch, seed, metrics, workdir))
    milliseconds = forward_times({patch: workdir for patch, _, _, workdir in measured})
    for patch, seed, metrics, workdir in measured:
        model = vitjax.load(workdir).model
        yield {
            'patch': f'{patch[0]}x{patch[1]}',
            'tokens': int(np.prod(grid_size(model.image_size, patch))),
            'seed': seed,
            'accuracy': metrics['accuracy'],
            'MFLOPs': model_cost(model)[1] / 1e6,
            'ms': milliseconds[patch],
        }


def forward_times(runs):
    """Median milliseconds of a batch of 256 in the forward pass, all sizes measured in turn."""
    functions = {}
    for patch, workdir in runs.items():
        pretrained = vitjax.load(workdir)
        images = np.zeros((BATCH, *as_pair(pretrained.model.image_size), 1), np.float32)
        apply = jax.jit(pretrained.model.apply).lower(pretrained.variables, images).compile()
        functions[patch] = lambda apply=apply, v=pretrained.variables, x=images: apply(v, x)
    seconds_in_turn(functions, 2)
    return {
        patch: float(1e3 * np.median(seconds))
        for patch, seconds in seconds_in_turn(functions, 20).items()
    }


def draw(rows, options):
    """Accuracy against FLOPs, and time against FLOPs."""
    figure = Figure(figsize=(8, 3.4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for (patch,), group in harness.cells(rows, ['patch']).items():
        mean, spread = harness.mean_and_spread(group, 'accuracy')
        left.errorbar(group[0]['MFLOPs'], mean, spread, fmt='o', capsize=2)
        left.annotate(patch, (group[0]['MFLOPs'], mean), (4, -10), textcoords='offset points')
        right.plot(group[0]['MFLOPs'], group[0]['ms'], 'o', label=patch)
    left.set(xscale='log', xlabel='MFLOPs an image', ylabel='test accuracy')
    right.set(xscale='log', yscale='log', xlabel='MFLOPs an image', ylabel=f'ms a batch of {BATCH}')
    right.legend(title='patch', frameon=False)
    return figure


if __name__ == '__main__':
    harness.main(__file__, rows, draw, by=['patch', 'tokens'], values=['accuracy', 'MFLOPs', 'ms'])
