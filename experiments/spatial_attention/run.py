"""Does an importance map help a CNN to look at the right place? Digits among clutter.

A digit of scikit-learn's (8x8 pixels) lies at a random place of an image of 24x24, alone or among
pieces of 4x4 pixels of other digits. The CNN weighs the last map of each stage with one importance a
pixel (sigmoid or softmax), or does not. The map costs one parameter a channel and one more: 0.2% here.
"""

import math
import sys
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import vitjax
from vitjax.data.sources import open_source

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

RECIPE = Path(__file__).with_name('config.py')
SIDE, DIGIT, PIECE = 24, 8, 4
STAGES = 2
COPIES = 8  # images made of each digit for training


def rows(options):
    """Test accuracy, parameters, and the share of the importance that lies on the digit."""
    clutters, attentions, steps = (0, 24), ('none', 'sigmoid', 'softmax'), {}
    if options.quick:
        clutters, attentions, steps = (24,), ('none', 'sigmoid'), harness.QUICK
    for pieces in clutters:
        folder = options.output / 'data' / str(pieces)
        drawn = {part: clutter(part, pieces) for part in ('train', 'test')}
        harness.write_images(folder, {part: images[:2] for part, images in drawn.items()})
        for attention in attentions:
            for seed in options.seeds:
                changes = {'model.spatial_attention': attention, **steps}
                run = f'{attention}-{pieces}'
                metrics, workdir = harness.train(options, f'{RECIPE}:{folder}', run, seed, changes)
                pretrained = vitjax.load(workdir)
                yield {
                    'clutter': pieces,
                    'attention': attention,
                    'seed': seed,
                    'accuracy': metrics['accuracy'],
                    'parameters': sum(x.size for x in jax.tree.leaves(pretrained.variables)),
                    **share_on_digit(importance(pretrained, drawn['test'][0]), drawn['test'][2]),
                }


def clutter(part: str, pieces: int):
    """Images [N, 24, 24], labels [N], and row and column of the digit's corner [N, 2]."""
    source = open_source('digits', part)
    digits = np.stack([source[index]['image'][..., 0] for index in range(len(source))])
    labels = np.array([source[index]['label'] for index in range(len(source))])
    rng = np.random.default_rng([pieces, part == 'test'])
    copies = COPIES if part == 'train' else 1
    digits, labels = np.tile(digits, (copies, 1, 1)), np.tile(labels, copies)
    corners = rng.integers(0, SIDE - DIGIT + 1, (len(digits), 2))
    images = np.zeros((len(digits), SIDE, SIDE), np.uint8)
    for image, digit, (row, column) in zip(images, digits, corners, strict=True):
        for top, left in rng.integers(0, SIDE - PIECE + 1, (pieces, 2)):
            y, x = rng.integers(0, DIGIT - PIECE + 1, 2)
            piece = digits[rng.integers(len(digits)), y : y + PIECE, x : x + PIECE]
            image[top : top + PIECE, left : left + PIECE] = piece
        image[row : row + DIGIT, column : column + DIGIT] = digit
    return images, labels, corners


def importance(pretrained, images):
    """The importance maps [N, 24, 24] of the stages, enlarged; none without spatial attention."""
    if pretrained.model.spatial_attention == 'none':
        return []
    apply = jax.jit(
        lambda v, x: pretrained.model.apply(v, x, method='features', attention=True)['attention']
    )
    maps = apply(pretrained.variables, pretrained.preprocess(list(images)))  # [N, H_i, W_i, 1] each
    return [
        np.asarray(stage)[..., 0].repeat(times, 1).repeat(times, 2)
        for stage in maps
        for times in [SIDE // stage.shape[1]]
    ]


def share_on_digit(maps, corners):
    """Part of the importance that lies on the digit, by stage; the digit covers a ninth."""
    shares = [None] * STAGES
    for stage, images in enumerate(maps):
        on = [_box(image, corner).sum() for image, corner in zip(images, corners, strict=True)]
        shares[stage] = float(np.mean(on / images.sum((1, 2))))
    return {f'on digit, stage {stage + 1}': share for stage, share in enumerate(shares)}


def _box(image, corner):
    row, column = corner
    return image[row : row + DIGIT, column : column + DIGIT]


def draw(rows, options):
    """Accuracy with and without the map, and the maps over test images."""
    figure = Figure(figsize=(9, 5), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=[2, 3])
    axis = left.subplots()
    groups = harness.cells(rows, ['clutter', 'attention'])
    for place, ((pieces, _), group) in enumerate(groups.items()):
        mean, spread = harness.mean_and_spread(group, 'accuracy')
        axis.bar(place, mean, yerr=spread, capsize=3, color='C1' if pieces else 'C0')
    names = [f'{attention}\n{"clutter" if pieces else "clean"}' for pieces, attention in groups]
    axis.set_xticks(range(len(names)), names, fontsize=7)
    low = min(row['accuracy'] for row in rows)
    axis.set(ylabel='test accuracy', ylim=(math.floor(low * 10) / 10, 1))

    images, _, corners = clutter('test', 24)
    count = 5
    pictures = {'image': images[:count]}
    for attention in {row['attention']: None for row in rows if row['attention'] != 'none'}:
        trained = vitjax.load(options.output / 'runs' / f'{attention}-24-0')
        for stage, maps in enumerate(importance(trained, images[:count]), 1):
            pictures[f'{attention}\nstage {stage}'] = maps
    axes = right.subplots(len(pictures), count)
    for row, (name, maps) in enumerate(pictures.items()):
        axes[row, 0].set_ylabel(name, fontsize=8)
        for column in range(count):
            axes[row, column].imshow(maps[column], cmap='inferno' if row else 'gray')
            axes[row, column].set(xticks=[], yticks=[])
    for (_, column), axis in np.ndenumerate(axes):
        y, x = corners[column]
        axis.plot(
            x - 0.5 + DIGIT * np.array([0, 1, 1, 0, 0]),
            y - 0.5 + DIGIT * np.array([0, 0, 1, 1, 0]),
            'c-',
            linewidth=0.8,
        )
    right.suptitle('importance of each pixel; box: the digit', fontsize=10)
    return figure


if __name__ == '__main__':
    harness.main(
        __file__,
        rows,
        draw,
        by=['clutter', 'attention'],
        values=['accuracy', 'parameters', 'on digit, stage 1', 'on digit, stage 2'],
    )
