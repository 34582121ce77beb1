"""Compiles a training step for hardware that is not here, and says whether it fits and what it takes.

Topologies of TPUs are written v5e:4x4, or as they are rented: v5litepod-16, v5p-8, v6e-8, tpu7x-8. No data
are read. Any value of the config can be set on the command line: --config.mesh.fsdp=16. Compiling takes
minutes; nothing is run. The step's time is an estimate: the longest of matrix products, memory traffic
and collectives, each at the full rate that the chip's maker states; measured steps are slower.
"""

import argparse
import json
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--config', required=True, metavar='FILE[:ARG]', help='the recipe')
    parser.add_argument('--topology', required=True, metavar='T', help='such as v5e:4x4')
    parser.add_argument('--num_slices', type=int, default=1, help='of that topology, default 1')
    parser.add_argument(
        '--search', action='store_true', help='try meshes, and remat where one does not fit'
    )
    parser.add_argument('--json', action='store_true', help='one JSON object a plan')


def run(args: argparse.Namespace) -> int:
    from vitjax.analysis.topologies import compile_only, parse_topology
    from vitjax.config import read_config

    topology = parse_topology(args.topology, args.num_slices)
    compile_only()  # before the config is read, which imports JAX
    config = read_config(args.config, args.overrides)

    from vitjax.analysis.topologies import devices

    found = devices(topology)
    if args.search:
        return _search(args, topology, found)
    print(f'compiling for {topology} ...', file=sys.stderr, flush=True)
    row = _plan(config, topology, found)
    print(json.dumps(row) if args.json else _table(row))
    return 0


def _plan(config, topology, devices) -> dict:
    """One plan, with what it is of."""
    import dataclasses

    from vitjax.analysis.planning import plan_step
    from vitjax.training.experiment import Experiment

    experiment = Experiment(config, devices, read_data=False)
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
    }


def _search(args, topology, devices) -> int:
    from vitjax.analysis.planning import meshes
    from vitjax.config import read_config
    from vitjax.errors import UserError

    rows = []
    for mesh in meshes(len(devices), topology.slices):
        for remat in ('False', 'True'):
            changes = {f'mesh.{axis}': str(size) for axis, size in mesh.items()}
            config = read_config(args.config, args.overrides | changes)
            if 'remat' in config.model:
                config = read_config(args.config, args.overrides | changes | {'model.remat': remat})
            elif remat == 'True':
                break
            print(f'compiling with {_name(mesh)}, remat {remat} ...', file=sys.stderr, flush=True)
            try:
                row = _plan(config, topology, devices)
            except UserError as error:  # as when the batch does not divide over the mesh
                print(f'left out: {error}', file=sys.stderr)
                break
            rows.append(row)
            print(json.dumps(row) if args.json else _line(row), flush=True)
            if row['fits']:  # recomputing would only take longer
                break
    fitting = [row for row in rows if row['fits']]
    if not fitting:
        print(
            'recommended: none, nothing fits; take a smaller batch or more chips', file=sys.stderr
        )
        return 0
    best = min(
        fitting, key=lambda row: (max(row['seconds'].values()), sum(row['seconds'].values()))
    )
    flags = [f'--config.mesh.{axis}={size}' for axis, size in best['mesh'].items()]
    if best['remat']:
        flags.append('--config.model.remat=True')
    print(f'recommended: {" ".join(flags)}', file=sys.stderr if args.json else sys.stdout)
    return 0


def _name(mesh) -> str:
    return ' x '.join(f'{axis} {size}' for axis, size in mesh.items())


def _line(row: dict) -> str:
    """A plan in one line of a search."""
    what = f'{_name(row["mesh"])}, remat {row["remat"]}'
    if not row['fits']:
        return f'{what:<44} does not fit: {_gib(row["needed"])} of {_gib(row["limit"])} GiB'
    used = sum(row['memory'].values())
    return (
        f'{what:<44} {_gib(used)} GiB a device, {_milliseconds(row)} ms a step, '
        f'bound by {row["bound"]}'
    )


def _table(row: dict) -> str:
    """A plan, a line a part: what, how much, and what that is made of."""
    title = (
        f'{row["model"]}, batch {row["batch_size"]}, {row["compute"]}, on {row["topology"]} '
        f'({row["chips"]} chips), mesh {_name(row["mesh"])}'
    )
    rows = [('FLOPs', f'{row["flops"] / 1e12:,.3f} T', 'a step, matrix products and convolutions')]
    if not row['fits']:
        verdict = f'does not fit: {_gib(row["needed"])} of {_gib(row["limit"])} GiB a device'
        return '\n'.join([title, verdict, *_columns(rows)])
    from vitjax.analysis.topologies import CHIPS

    chip = CHIPS[row['topology'].split(' x ')[-1].split(':')[0]]
    verdict = f'fits: {_gib(sum(row["memory"].values()))} of {_gib(chip.memory / chip.devices)} GiB a device'
    rows = [
        *((name, f'{_gib(size)} GiB', 'a device') for name, size in row['memory'].items()),
        *rows,
        *(
            (kind, f'{size / 2**20:,.1f} MiB', 'sent by a device a step')
            for kind, size in row['collectives'].items()
        ),
        (
            'memory traffic',
            f'{_gib(row["memory_traffic"])} GiB',
            'read and written by a device a step',
        ),
    ]
    seconds = ', '.join(f'{name} {1000 * s:.2f}' for name, s in row['seconds'].items())
    rows.append(
        ('step time, estimate', f'{_milliseconds(row)} ms', f'bound by {row["bound"]}: {seconds}')
    )
    if row['unknown_loops']:
        names = ', '.join(row['unknown_loops'])
        rows.append(('loops counted once', str(len(row['unknown_loops'])), names))
    if ' x ' in row['topology']:
        rows.append(('between slices', 'not counted', 'the slower network that joins them'))
    return '\n'.join([title, verdict, *_columns(rows)])


def _columns(rows) -> list[str]:
    return [f'{what:<20}{much:>16}   {more}' for what, much, more in rows]


def _gib(size: float) -> str:
    return f'{size / 2**30:.2f}'


def _milliseconds(row: dict) -> str:
    return f'{1000 * max(row["seconds"].values()):.2f}'
