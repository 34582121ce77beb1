"""Draws what a run of configs/mae/digits.py makes of test digits: they, what is visible, the reconstruction.

pip install -e '.[figures]' && python docs/mae_figure.py runs/mae picture.png
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import vitjax
from vitjax.analysis import reconstruct
from vitjax.data.sources import open_source


def main(run: str, picture: str) -> None:
    """Writes the picture of a run."""
    pretrained = vitjax.load(run)
    source = open_source('digits', 'test')
    first = {}
    for index in range(len(source)):
        first.setdefault(source[index]['label'], source[index]['image'])
    images = pretrained.preprocess([first[label] for label in range(10)])
    pictures = reconstruct(pretrained.model, pretrained.variables, images)
    rows = {
        'original': images,
        'visible': np.where(pictures['hidden'], np.nan, images),
        'reconstructed': pictures['reconstructed'],
    }
    figure, axes = plt.subplots(3, 10, figsize=(8, 2.5), layout='constrained')
    colours = plt.get_cmap('gray').with_extremes(bad='tab:blue')
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, row, strict=True):
            axis.imshow(picture[..., 0], cmap=colours, vmin=images.min(), vmax=images.max())
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha='right', va='center', fontsize=9)
    figure.savefig(picture, dpi=110)


if __name__ == '__main__':
    main(*sys.argv[1:])
