"""Data that several tests of evaluations classify."""

import numpy as np
import pytest


@pytest.fixture(scope='session')
def digits():
    """scikit-learn's digits, split in two: name -> {'image', 'label'}."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = data.images[..., None].astype(np.float32)
    return {
        'train': {'image': images[:1200], 'label': data.target[:1200].astype(np.int32)},
        'test': {'image': images[1200:], 'label': data.target[1200:].astype(np.int32)},
    }
