"""Lists the models that match a name, a shell pattern or a part of a name, with parameters and FLOPs.

FLOPs are those of a forward pass on one image of the model's default size, or on a pair of sentences of
64 tokens each; a multiplication and an addition count as two.
"""

import argparse
import fnmatch
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('pattern', nargs='?', default='*', help="such as 'vit_*16' or augreg")
    parser.add_argument('--json', action='store_true', help='one JSON object a line')


def run(args: argparse.Namespace) -> int:
    from vitjax.errors import unknown
    from vitjax.planning.model_costs import read_model_costs

    costs = read_model_costs()  # imports neither JAX nor the models
    patterns = (args.pattern, f'*{args.pattern}*')
    matches = ([name for name in costs if fnmatch.fnmatchcase(name, p)] for p in patterns)
    names = next(filter(None, matches), None)
    if names is None:
        raise unknown('model', args.pattern, costs)
    if not args.json:
        print(f'{"name":<26}{"input":>10}{"parameters":>16}{"GFLOPs":>10}')
    for name in names:
        cost = costs[name]
        if args.json:
            row = {key: cost[key] for key in ('image_size', 'parameters', 'flops')}
            print(json.dumps({'name': name} | row))
        else:
            parameters, gflops = cost['parameters'], cost['flops'] / 1e9
            print(f'{name:<26}{cost["input"]:>10}{parameters:>16,}{gflops:>10.1f}')
    return 0
