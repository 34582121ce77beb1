"""The stored table of `vitjax models`; tests/models/test_registry.py compares its numbers with all models."""

import pytest

import vitjax
from vitjax.planning.model_costs import compute_model_cost, read_model_costs


def test_model_costs_lists_the_models_in_their_order():
    assert list(read_model_costs()) == vitjax.list_models()


@pytest.mark.parametrize('name', ['cnn_ti', 'vit_ti16', 'mae_b16', 'transformer_tiny'])
def test_stored_model_cost_equals_the_computed_one(name):
    message = 'write the table again: python -m vitjax.planning.model_costs'
    assert read_model_costs()[name] == compute_model_cost(name), message
