"""What early and late layers see: filters, receptive fields and attention distances by depth.

A CNN and a ViT are trained on Fashion-MNIST (--quick: on scikit-learn's digits, enlarged). For each layer:
the theoretical and the effective receptive field of its centre unit (Luo et al. 2016), and for the
ViT the mean distance over which each head attends (Dosovitskiy et al. 2021, figure 7), in pixels.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import vitjax
from vitjax.analysis import attention_distance, receptive_field
from vitjax.data.sources import open_source
from vitjax.layers.patches import grid_size

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

CONFIGS = Path(__file__).parents[2] / 'configs'
# With batch norm: the statistics of group norm would let every unit see the whole map.
CNN = {
    'model.name': 'cnn',
    'model.widths': (32, 64, 128),
    'model.stage_depth': 2,
    'model.norm': 'batch',
}
VIT = {
    'model.patch_size': 4,
    'model.width': 64,
    'model.depth': 6,
    'model.num_heads': 4,
    'model.mlp_dim': 256,
}
IMAGES, QUICK_IMAGES = 64, 16  # that fields and distances are means over


def rows(options):
    """A row a layer and seed, fields in pixels."""
    recipe, changes = CONFIGS / 'fashion_mnist.py', {'epochs': 1, 'checkpoint.every': None}
    cnn, vit = CNN, VIT
    if options.quick:
        recipe = CONFIGS / 'digits.py'
        changes = harness.QUICK | {'model.image_size': 16, 'eval.every': None}
        changes['checkpoint.every'] = None
        cnn, vit = CNN | {'model.widths': (8, 16, 32)}, VIT | {'model.depth': 2}
    for model, chosen in (('cnn', cnn), ('vit', vit)):
        for seed in options.seeds:
            metrics, workdir = harness.train(options, recipe, model, seed, changes | chosen)
            pretrained, images = load(workdir, options)
            heads = distances(pretrained, images)
            for index, field in enumerate(
                receptive_field(pretrained.model, pretrained.variables, images)
            ):
                row = {
                    'model': model,
                    'layer': field.name,
                    'seed': seed,
                    'theoretical': field.size[0],
                    'effective': field.effective_size,
                    'attention distance': None,
                }
                if heads is not None and index:  # the first entry is the patch embedding
                    row['attention distance'] = float(heads[index - 1].mean())
                    row['heads'] = heads[index - 1].tolist()
                yield row | {'accuracy': metrics['accuracy']}


def load(workdir, options):
    """The trained model, and the first test images as it takes them."""
    pretrained = vitjax.load(workdir)
    data = pretrained.info['config']['data']
    source = open_source(data['name'], data['eval_split'], data['path'])
    count = QUICK_IMAGES if options.quick else IMAGES
    return pretrained, pretrained.preprocess([source[i]['image'] for i in range(count)])


def distances(pretrained, images):
    """[L, h] mean attention distance in pixels; None for the CNN."""
    model = pretrained.model
    if not hasattr(model, 'patch_size'):
        return None
    features = model.apply(pretrained.variables, images, method='features', attention=True)
    grid = grid_size(model.image_size, model.patch_size)
    prefix = features['prefix'].shape[1]
    return np.asarray(
        attention_distance(features['attention'], grid, model.patch_size, prefix=prefix)
    )


def draw(rows, options):
    """Filters of the first layers; fields of all layers; attention distance of all heads."""
    figure = Figure(figsize=(11, 7), layout='constrained')
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[2, 3, 4])
    runs = {name: load(options.output / f'runs/{name}-0', options) for name in ('cnn', 'vit')}

    params = runs['cnn'][0].variables['params']['stage1_block1']['convolution']['kernel']
    filters = {'CNN, first filters': np.asarray(params)[..., 0, :].transpose(2, 0, 1)}
    kernel = np.asarray(runs['vit'][0].variables['params']['patch_embedding']['kernel'])
    components = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)[0]
    filters['ViT, principal components of the patch embedding'] = components.T.reshape(
        -1, *kernel.shape[:2]
    )
    for part, (title, pictures) in zip(top.subfigures(1, 2), filters.items(), strict=True):
        _pictures(part, title, pictures[:16], rows=2, cmap='gray')

    for part, (name, (pretrained, images)) in zip(
        middle.subfigures(2, 1), runs.items(), strict=True
    ):
        fields = receptive_field(pretrained.model, pretrained.variables, images)
        seen = {field.name: field.effective**0.5 for field in fields if field.effective is not None}
        _pictures(part, f'{name}: effective receptive fields', seen.values(), 1, 'inferno', [*seen])

    left, right = bottom.subplots(1, 2)
    for (model,), group in harness.cells(rows, ['model']).items():
        layers = [
            cell
            for cell in harness.cells(group, ['layer']).values()
            if cell[0]['effective'] is not None
        ]
        depth = np.arange(1, len(layers) + 1) / len(layers)
        means, spreads = zip(
            *(harness.mean_and_spread(c, 'effective') for c in layers), strict=True
        )
        line = left.errorbar(
            depth, means, spreads, fmt='o-', capsize=2, label=f'{model}, effective'
        )
        sizes = [cell[0]['theoretical'] for cell in layers]
        left.plot(depth, sizes, '--', color=line[0].get_color(), label=f'{model}, theoretical')
    left.set(xlabel='depth', ylabel='receptive field, pixels')
    left.legend(frameon=False, fontsize=8)
    for number, cell in enumerate(
        (c for c in harness.cells(rows, ['model', 'layer']).values() if 'heads' in c[0]), 1
    ):
        for row in cell:
            right.plot([number] * len(row['heads']), row['heads'], 'o', color=f'C{row["seed"]}')
    right.set(xlabel='block of the ViT', ylabel='mean attention distance, pixels')
    return figure


def _pictures(part, title, pictures, rows, cmap, names=None):
    axes = part.subplots(rows, len(pictures) // rows, squeeze=False)
    for index, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=True)):
        axis.imshow(picture, cmap=cmap)
        axis.set_axis_off()
        if names:
            axis.set_title(names[index], fontsize=6)
    part.suptitle(title, fontsize=9)


if __name__ == '__main__':
    harness.main(
        __file__,
        rows,
        draw,
        by=['model', 'layer'],
        values=['theoretical', 'effective', 'attention distance'],
    )
