"""Lists the recipes that are part of vitjax, or prints the source of one.

    vitjax configs
    vitjax configs digits > mine.py

A recipe is used by name (vitjax train --config vitjax:digits), or copied, changed and used by path
(vitjax train --config mine.py).
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', nargs='?', help='the recipe whose source is printed')


def run(args: argparse.Namespace) -> int:
    from vitjax.config.recipes import recipe_path, recipes, summary

    if args.name is not None:
        print(recipe_path(args.name).read_text(encoding='utf-8'), end='')
        return 0
    found = recipes()
    width = max(map(len, found)) + 2
    for name, path in found.items():
        print(f'{name:<{width}}{summary(path)}')
    return 0
