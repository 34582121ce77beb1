"""How exactly a soft lookup recalls: error against the temperature and the likeness of the keys.

A table of 64 random keys holds 64 values. Every key is asked for, and as many keys that the table does
not have. What comes back is compared with the value stored under the key, or with the mean of all
values, which is the honest answer to a key that is not there.
"""

import math
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from vitjax.errors import UserError
from vitjax.layers.attention import lookup

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

KEYS = 64
SIMILARITIES = (0.0, 0.5, 0.9, 0.99)


def rows(options):
    """Distances to the value that is right, in units of the error that the mean of all values makes."""
    if options.overrides:
        raise UserError('this experiment trains nothing and has no config')
    temperatures = np.logspace(-4, 1, 6 if options.quick else 11)
    for similarity in SIMILARITIES:
        for temperature in temperatures:
            for seed in options.seeds:
                key, missing, value = _table(similarity, seed)
                found, strange = (
                    lookup(jnp.asarray(query), key, value, temperature=float(temperature))
                    for query in (key, missing)
                )
                scale = _rms(value - value.mean(0))
                yield {
                    'similarity': similarity,
                    'temperature': float(temperature),
                    'seed': seed,
                    'error': _rms(found - value) / scale,
                    'predicted': predicted_error(similarity, temperature),
                    'missing': _rms(strange - value.mean(0)) / scale,
                }


def predicted_error(similarity: float, temperature: float) -> float:
    """The error by hand, if any two keys were exactly as similar as they are on average.

    With the weight w on the right key, what is found is w v + (1 - w) m, where m is the mean of the
    other values.
    """
    odds = (KEYS - 1) * math.exp(-(1 - similarity) / temperature)
    return odds / (1 + odds) * KEYS / (KEYS - 1)


def draw(rows, options):
    """Left: error against temperature, measured over predicted. Right: a key that is not there."""
    figure = Figure(figsize=(9, 3.4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for similarity, group in harness.cells(rows, ['similarity']).items():
        points = harness.cells(group, ['temperature'])
        temperature = [cell[0] for cell in points]
        for axis, value in ((left, 'error'), (right, 'missing')):
            means = [harness.mean_and_spread(cell, value)[0] for cell in points.values()]
            axis.plot(temperature, means, 'o', markersize=4, label=f'{similarity[0]:g}')
        fine = np.logspace(-4, 1, 200)
        left.plot(fine, [predicted_error(similarity[0], t) for t in fine], 'k-', linewidth=0.6)
    left.set(title='key in the table (lines: predicted)', ylabel='error / error of the mean')
    right.set(title='key not in the table', ylabel='distance to the mean of the values')
    for axis in (left, right):
        axis.set(xscale='log', xlabel='temperature', ylim=(-0.05, None))
    right.legend(title='similarity of the keys', frameon=False)
    return figure


def _table(similarity, seed):
    """Keys [64, 64] of length 1 with a mean similarity, missing keys like them, values [64, 16]."""
    rng = np.random.default_rng(seed)
    shared, own = np.split(_directions(rng, 1 + 2 * KEYS), [1])
    own = own - own @ shared.T * shared  # nothing in common but what is shared on purpose
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    key, missing = np.split(math.sqrt(similarity) * shared + math.sqrt(1 - similarity) * own, 2)
    value = rng.normal(size=(KEYS, 16))
    return (jnp.asarray(array, jnp.float32) for array in (key, missing, value))


def _directions(rng, count):
    vectors = rng.normal(size=(count, 64))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _rms(difference):
    return float(jnp.sqrt((difference**2).mean()))


if __name__ == '__main__':
    harness.main(
        __file__,
        rows,
        draw,
        by=['similarity', 'temperature'],
        values=['error', 'predicted', 'missing'],
    )
