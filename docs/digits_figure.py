"""Draws docs/digits.png from a run of configs/digits.py: what it looks at, and how it learned.

pip install -e '.[figures]' && python docs/digits_figure.py runs/digits
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import vitjax
from vitjax.data.sources import open_source


def main(run: Path) -> None:
    """Writes the figure beside this file."""
    pretrained = vitjax.load(run)
    source = open_source('digits', 'test')
    first = {}
    for index in range(len(source)):
        first.setdefault(source[index]['label'], source[index]['image'])
    pictures = [first[label] for label in range(10)]
    images = pretrained.preprocess(pictures)
    logits = pretrained.model.apply(pretrained.variables, images)
    seen = pretrained.model.apply(pretrained.variables, images, method='features', attention=True)[
        'attention'
    ]  # [L, B, h, N, N]
    looked_at = np.asarray(seen[-1].mean((1, 2))).reshape(-1, 4, 4)  # how much each patch gets

    figure = plt.figure(figsize=(11, 2.6), layout='constrained')
    left, right = figure.subfigures(1, 2, width_ratios=[10, 4])
    axes = left.subplots(2, 10)
    for column, (picture, weights) in enumerate(zip(pictures, looked_at, strict=True)):
        axes[0, column].imshow(picture[..., 0], cmap='gray')
        axes[0, column].set_title(pretrained.labels[logits[column].argmax()], fontsize=10)
        axes[1, column].imshow(picture[..., 0], cmap='gray', extent=(0, 4, 4, 0))
        axes[1, column].imshow(weights, cmap='inferno', alpha=0.7, extent=(0, 4, 4, 0))
    for axis in axes.flat:
        axis.set_axis_off()
    left.suptitle('predicted label; patches that the last block looks at', fontsize=10)

    rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
    axis = right.subplots()
    for split, style in (('train', '-'), ('test', 'o-')):
        points = [(row['step'], row['accuracy']) for row in rows if row['split'] == split]
        axis.plot(*zip(*points, strict=True), style, markersize=4, label=split)
    axis.set(xlabel='step', ylabel='accuracy', ylim=(0.5, 1.01))
    axis.legend(frameon=False)
    figure.savefig(Path(__file__).with_name('digits.png'), dpi=110)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
