"""Compiles a train step for hardware that is not attached, and estimates its memory and time.

Topologies of TPUs are written as v5e:4x4, or as accelerator types: v5litepod-16, v5p-8, v6e-8, tpu7x-8.
NVIDIA GPUs of one machine are written as a100x8, h100x8, h200x8, b200x8; --num_slices sets the number of
machines. No data is read. Every value of the config can be set: --config.mesh.fsdp=16. Compilation takes
minutes; nothing is run. The time of a step is an estimate: the longest of matrix products, memory
traffic, collectives and the network between slices or machines, each at its specified peak rate. Measured
steps are slower.
"""

import argparse
import json
import math
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--config',
        required=True,
        metavar='RECIPE[:ARG]',
        help='vitjax:NAME (see vitjax configs), or a Python file',
    )
    parser.add_argument('--topology', required=True, metavar='T', help='such as v5e:4x4 or h100x8')
    parser.add_argument(
        '--num_slices',
        type=int,
        default=1,
        help='number of slices of TPUs, or machines of GPUs; default 1',
    )
    parser.add_argument(
        '--search',
        action='store_true',
        help='try meshes, remat for meshes that do not fit, and batch sizes; recommend the fastest',
    )
    parser.add_argument('--json', action='store_true', help='print each plan as a JSON object')


def run(args: argparse.Namespace) -> int:
    from vitjax.config import read_config
    from vitjax.planning.topologies import compile_only, parse_topology

    topology = parse_topology(args.topology, args.num_slices)
    compile_only()  # before JAX is imported by reading the config
    config = read_config(args.config, args.overrides)

    from vitjax.planning.topologies import devices

    found = devices(topology)
    if args.search:
        return _search(config, topology, found, args.json)
    print(f'compiling for {topology} ...', file=sys.stderr, flush=True)
    row = _plan(config, topology, found)
    print(json.dumps(row) if args.json else _table(row))
    return 0


def _plan(config, topology, devices) -> dict:
    """A plan and the configuration that it is for, as a JSON object."""
    import dataclasses

    from vitjax.planning.plan import plan_step
    from vitjax.training.build import build

    config, experiment = build(config, devices, read_data=False)
    plan = plan_step(experiment, topology)
    return {
        'model': config.model.name,
        'batch_size': config.batch_size,
        'compute': config.precision.compute,
        'remat': bool(config.model.get('remat')),
        'topology': str(topology),
        'chips': topology.chips,
        'mesh': dict(experiment.mesh.shape),
        'fits': plan.fits,
        **dataclasses.asdict(plan),
        'bound': plan.bound,
        'step_time': plan.step_time,
    }


def _search(config, topology, devices, as_json: bool) -> int:
    """Tries meshes with the recipe's batch size, then other batch sizes with the best mesh."""
    from vitjax.config import complete
    from vitjax.errors import UserError
    from vitjax.planning.plan import meshes

    rows, refused = [], []

    def attempt(mesh: dict, remat: bool, batch_size: int) -> dict | None:
        """The plan with these changes; None if the config is then not valid."""
        changes = {f'mesh.{axis}': size for axis, size in mesh.items()}
        changes |= {'batch_size': batch_size} | ({'model.remat': True} if remat else {})
        what = _setting(mesh, remat, batch_size)
        print(f'compiling with {what} ...', file=sys.stderr, flush=True)
        try:
            changed = complete(config, {key: str(value) for key, value in changes.items()})
            row = _plan(changed, topology, devices)
        except UserError as error:  # for example, the batch does not divide over the mesh
            print(f'skipped: {error}', file=sys.stderr)
            refused.append(error)
            return None
        print(json.dumps(row) if as_json else _line(row), flush=True)
        rows.append(row)
        return row

    # A step that fits without remat is slower with it.
    asked = bool(config.model.get('remat'))
    switches = (False, True) if 'remat' in config.model and not asked else (asked,)
    for mesh in meshes(len(devices), topology.slices):
        for remat in switches:
            row = attempt(mesh, remat, config.batch_size)
            if not row or row['fits']:
                break
    if not rows:
        raise refused[-1]
    start = _fastest(rows, config.batch_size) or min(rows, key=lambda r: r['needed'], default=None)
    if start:
        # Doubles the batch size until it does not fit, or halves it until it fits.
        for power in range(1, 4):
            size = start['batch_size'] * 2**power
            size = size if start['fits'] else start['batch_size'] // 2**power
            row = attempt(start['mesh'], start['remat'], size)
            if not row or row['fits'] != start['fits']:
                break
    best = _fastest(rows, config.batch_size)
    flags = _flags(best, config.batch_size, asked) if best else []
    largest = max((row['batch_size'] for row in rows if row['fits']), default=None)
    if as_json:
        print(json.dumps({'recommended': flags or None, 'largest_batch_size': largest}))
    elif not best:
        print('recommended: none; no configuration fits, use more chips')
    else:
        print(f'largest batch size that fits, of those that were tried: {largest}')
        print(f'recommended: {" ".join(flags)}')
    return 0


def _flags(best: dict, batch_size: int, remat: bool) -> list[str]:
    """The overrides that turn the recipe, with its batch size and remat, into the best plan."""
    flags = [f'--config.mesh.{axis}={size}' for axis, size in best['mesh'].items()]
    if best['remat'] and not remat:
        flags.append('--config.model.remat=True')
    if best['batch_size'] != batch_size:
        flags.append(f'--config.batch_size={best["batch_size"]}')
    return flags


def _fastest(rows: list[dict], batch_size: int) -> dict | None:
    """The plan that fits and needs least time for each example.

    Among plans within 1 % of the least time, the one with the batch size nearest to `batch_size` is
    returned, then the one with the smallest sum of the times of all resources.
    """
    fitting = [row for row in rows if row['fits']]
    if not fitting:
        return None
    shortest = min(row['step_time'] / row['batch_size'] for row in fitting)
    return min(
        (row for row in fitting if row['step_time'] / row['batch_size'] <= 1.01 * shortest),
        key=lambda row: (
            abs(math.log(row['batch_size'] / batch_size)),
            sum(row['seconds'].values()) / row['batch_size'],
        ),
    )


def _name(mesh) -> str:
    return ' x '.join(f'{axis} {size}' for axis, size in mesh.items())


def _setting(mesh: dict, remat: bool, batch_size: int) -> str:
    """The values that a search varies, as text."""
    return f'{_name(mesh)}, remat {remat}, batch {batch_size}'


def _line(row: dict) -> str:
    """A plan as one line of a search."""
    what = _setting(row['mesh'], row['remat'], row['batch_size'])
    if not row['fits']:
        return f'{what:<56} does not fit: {_size(row["needed"])} of {_size(row["limit"])}'
    return (
        f'{what:<56} {_size(row["needed"])} a device, {_milliseconds(row)} ms a step, '
        f'{row["batch_size"] / row["step_time"]:,.0f} examples/s, bound by {row["bound"]}'
    )


def _table(row: dict) -> str:
    """A plan as a table: name, value, and details."""
    title = (
        f'{row["model"]}, batch {row["batch_size"]}, {row["compute"]}, on {row["topology"]} '
        f'({row["chips"]} chips), mesh {_name(row["mesh"])}'
    )
    verdict = 'fits' if row['fits'] else 'does not fit'
    verdict += f': {_size(row["needed"])} of {_size(row["limit"])} a device'
    flops = (
        f'{row["flops"] / 1e9:,.3g} G' if row['flops'] < 1e11 else f'{row["flops"] / 1e12:,.2f} T'
    )
    rows = [
        *((name, _size(size), 'a device') for name, size in row['memory'].items()),
        ('FLOPs', flops, 'a step on all devices, matrix products and convolutions'),
    ]
    if not row['fits']:
        return '\n'.join([title, verdict, *_columns(rows)])
    rows += [
        (kind, _size(size), 'sent by a device a step') for kind, size in row['collectives'].items()
    ]
    if 'network' in row['seconds']:
        beyond = 'sent by a device to other slices or, of the above, machines'
        rows.append(('network', _size(row['network']), beyond))
    traffic = 'read and written by a device a step'
    rows.append(('memory traffic', _size(row['memory_traffic']), traffic))
    seconds = ', '.join(f'{name} {1000 * s:.3g}' for name, s in row['seconds'].items())
    rows.append(
        ('step time, estimate', f'{_milliseconds(row)} ms', f'bound by {row["bound"]}: {seconds}')
    )
    if row['unknown_loops']:
        names = ', '.join(row['unknown_loops'])
        rows.append(('loops counted once', str(len(row['unknown_loops'])), names))
    return '\n'.join([title, verdict, *_columns(rows)])


def _columns(rows) -> list[str]:
    return [f'{what:<20}{much:>16}   {more}' for what, much, more in rows]


def _size(size: float) -> str:
    """Bytes, in GiB, MiB or KiB."""
    for power, unit in ((30, 'GiB'), (20, 'MiB')):
        if size >= 2**power / 10:
            return f'{size / 2**power:,.2f} {unit}'
    return f'{size / 2**10:,.2f} KiB'


def _milliseconds(row: dict) -> str:
    return f'{1000 * row["step_time"]:.3g}'
