"""Lists the models of a name, shell pattern or part of a name, with parameters and FLOPs of a forward pass.

FLOPs count a multiplication and an addition as two, for one image of the model's own size, or for a
pair of sentences of 64 tokens each.
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('pattern', nargs='?', default='*', help="such as 'vit_*16' or augreg")
    parser.add_argument('--json', action='store_true', help='one JSON object a line')


def run(args: argparse.Namespace) -> int:
    import vitjax
    from vitjax.errors import unknown
    from vitjax.models.contract import example_inputs
    from vitjax.planning.flops import model_cost

    names = vitjax.list_models(args.pattern) or vitjax.list_models(f'*{args.pattern}*')
    if not names:
        raise unknown('model', args.pattern, vitjax.list_models())
    if not args.json:
        print(f'{"name":<26}{"input":>10}{"parameters":>16}{"GFLOPs":>10}')
    for name in names:
        model = vitjax.create_model(name)
        parameters, flops = model_cost(model)
        image_size = getattr(model, 'image_size', None)
        if args.json:
            row = {'name': name, 'image_size': image_size}
            print(json.dumps(row | {'parameters': parameters, 'flops': flops}), flush=True)
        else:
            size = str(image_size or f'{example_inputs(model)[0].shape[1]} tokens')
            print(f'{name:<26}{size:>10}{parameters:>16,}{flops / 1e9:>10.1f}', flush=True)
    return 0
