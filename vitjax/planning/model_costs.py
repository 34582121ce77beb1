"""A stored table of the parameters and FLOPs of the built-in models, for `vitjax models`.

After a change of the models, write the table again; a test compares it with the models:

    python -m vitjax.planning.model_costs
"""

import json
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_suffix('.json')


def read_model_costs() -> dict[str, dict[str, Any]]:
    """Name -> 'input', 'image_size', 'parameters' and 'flops', in the order of `vitjax.list_models`.

    FLOPs are for one example of the size 'input': the image size in pixels, or '64 tokens'. 'image_size' is
    None for a model without images.
    """
    return json.loads(_TABLE.read_text())


def compute_model_cost(name: str) -> dict[str, Any]:
    """One entry of the table, from the model itself, traced but not compiled; about 0.3 s."""
    from vitjax.models.contract import example_inputs
    from vitjax.models.registry import create_model
    from vitjax.planning.flops import model_cost

    model = create_model(name)
    image_size = getattr(model, 'image_size', None)
    parameters, flops = model_cost(model)
    return {
        'input': str(image_size or f'{example_inputs(model)[0].shape[1]} tokens'),
        'image_size': image_size,
        'parameters': parameters,
        'flops': flops,
    }


def main() -> None:
    """Writes the table, a line a model."""
    from vitjax.models.registry import list_models

    lines = [
        f'{json.dumps(name)}: {json.dumps(compute_model_cost(name))}' for name in list_models()
    ]
    _TABLE.write_text('{\n' + ',\n'.join(lines) + '\n}\n')


if __name__ == '__main__':
    main()
