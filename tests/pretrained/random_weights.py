"""Small models of random numbers."""

import numpy as np
from flax.traverse_util import flatten_dict

from vitjax.pretrained.layouts.base import Parts, parameter_shapes
from vitjax.pretrained.loading import assemble

SMALL = {
    'image_size': 12,
    'patch_size': 4,
    'width': 16,
    'depth': 2,
    'num_heads': 2,
    'mlp_dim': 24,
    'num_classes': 5,
}
PREPROCESS = {'mean': (0.4, 0.5, 0.6), 'std': (0.2, 0.3, 0.4), 'crop': 0.9}


def random_parameters(name, arguments):
    """Path -> array, for all parameters of a model."""
    rng = np.random.default_rng(0)
    return {
        path: (0.3 * rng.normal(size=shape) + path.endswith('scale')).astype(np.float32)
        for path, shape in parameter_shapes(name, arguments).items()
    }


def random_weights(name='vit', **changes):
    """A `Pretrained` of a small model with other constructor arguments."""
    arguments = SMALL | changes
    params = random_parameters(name, arguments)
    labels = tuple(f'class {k}' for k in range(arguments['num_classes'])) or None
    parts = Parts(name, arguments, params, PREPROCESS | {'interpolation': 'bilinear'}, labels)
    return assemble(parts, source='random', layout='vitjax')


def same(one, other):
    """Whether two have the same variables, to the bit."""
    ours, theirs = (flatten_dict(pretrained.variables, sep='/') for pretrained in (one, other))
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[path], theirs[path]) for path in ours
    )
