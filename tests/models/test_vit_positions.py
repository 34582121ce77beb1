"""What a ViT knows of where its patches stand."""

import numpy as np
import pytest
from small_vit import IMAGES, SMALL, jit, random_variables

from vitjax.layers.patches import patchify, unpatchify
from vitjax.models.vit import ViT


@pytest.mark.parametrize('pooling', ['cls', 'mean'])
@pytest.mark.parametrize(
    'positions', ['none', 'learned', 'sincos2d', 'sincos2d_mae', 'sinusoidal', 'rotary']
)
def test_vit_sees_the_order_of_patches_only_through_positions(positions, pooling):
    blind = positions == 'none'
    model = ViT(**SMALL, positions=positions, pooling=pooling)
    variables = random_variables(model)
    features = jit(lambda images: model.apply(variables, images, method='features'))
    order = [2, 0, 3, 1]
    shuffled = unpatchify(patchify(IMAGES, (2, 3))[:, order], (4, 6))
    before, after = features(IMAGES), features(shuffled)
    assert np.allclose(after['tokens'], before['tokens'][:, order], atol=1e-3) == blind
    assert np.allclose(after['pooled'], before['pooled'], atol=1e-3) == blind


def test_class_token_and_registers_have_no_fixed_position():
    """Rotary, they and the first patch, whose angles are 0 too, weigh each other as without."""
    still, turned = (
        ViT(**SMALL, num_registers=2, positions=positions) for positions in ('none', 'rotary')
    )
    variables = random_variables(still)

    def weights(model, tokens):
        features = jit(
            lambda images: model.apply(variables, images, method='features', attention=True)
        )(IMAGES)
        weights = features['attention'][0][..., :tokens, :tokens]
        return weights / weights.sum(-1, keepdims=True)

    np.testing.assert_allclose(weights(turned, 4), weights(still, 4), atol=1e-5)
    assert np.abs(weights(turned, 5) - weights(still, 5)).max() > 1e-3
