"""Measurements of `vitjax bench`: first step, steps in turn with those of peers, and input."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitjax.errors import UserError
from vitjax.models.seq2seq import SENTENCE
from vitjax.planning import benchmark
from vitjax.planning.benchmark import median_and_spread, versions
from vitjax.planning.decoding import compare_decoders
from vitjax.planning.flops import model_cost
from vitjax.planning.input_peers import INPUT_PEERS, batches_of_peer
from vitjax.planning.peers import PEERS, import_peer, steps_of_peer
from vitjax.protocols import Decodes
from vitjax.training.build import build
from vitjax.training.experiment import Experiment
from vitjax.training.sharding import to_devices

# Rounds until memory use is stable: libraries reuse memory that others have freed.
_WARM_UP = 5

IMPORTS = {
    'jax': 'import jax, flax.linen',
    'vitjax': 'import vitjax',
    'models': 'import vitjax; vitjax.create_model',
}


def measure(config: ml_collections.ConfigDict, rounds: int, with_input: bool) -> dict[str, Any]:
    """Measures the experiment of a config; returns values that JSON can store.

    Args:
      config: complete, for images or translation.
      rounds: how often each step is timed.
      with_input: whether to measure the reading of images; ignored for translation.
    """
    config, experiment = build(config)
    batches: Any = iter(experiment.data.train_batches(config.batch_size, (0, 1)))
    batch = next(batches)
    ours = _Steps(config, experiment, batch)
    if isinstance(experiment.model, Decodes):
        results = _measure_translation(ours, batch, rounds)
    else:
        results = _measure_images(ours, batch, rounds)
        if with_input:
            results['input'] = _measure_input(ours, batches, min(rounds, 5))
    batches.close()
    return results


class _Steps:
    """Train step and forward pass of an experiment on one batch; the train step has run once.

    Attributes:
      config: complete.
      experiment: of the config.
      state: train state after the steps so far.
      clock: seconds to trace, compile and run the first train step.
      temporary_bytes: temporary memory of the train step.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        experiment: Experiment,
        batch: Mapping[str, np.ndarray],
    ):
        self.config, self.experiment = config, experiment
        self._batch = to_devices(batch, experiment.mesh)
        self.state = experiment.init_state()
        with experiment.context():
            times = [time.perf_counter()]
            lowered = experiment.train_step().lower(self.state, self._batch)
            times.append(time.perf_counter())
            self._train = lowered.compile()
            times.append(time.perf_counter())
            jax.block_until_ready(self.train_step())
            times.append(time.perf_counter())
        parts = ('trace', 'compile', 'run')
        self.clock = dict(zip(parts, np.diff(times).tolist(), strict=True))
        self.temporary_bytes = self._train.memory_analysis().temp_size_in_bytes
        names = (*experiment.metric_names, 'examples')
        self._sums = {name: jnp.zeros(2) for name in names}
        self._forward = experiment.eval_step()

    def train_step(self):
        self.state, values = self._train(self.state, self._batch)
        return self.state, values

    def forward(self):
        return self._forward(self._sums, self.state.variables, self._batch)


def _measure_images(ours: _Steps, batch: Mapping[str, np.ndarray], rounds: int) -> dict[str, Any]:
    """Measures steps on images, in turn with those of the peers."""
    experiment = ours.experiment
    variables, preprocess = ours.state.variables, experiment.data.preprocess
    peers: dict[str, dict[str, Any]] = {}
    steps = {}
    with experiment.context():
        for name in PEERS:
            try:
                steps[name] = steps_of_peer(
                    name, experiment.model, variables, preprocess, ours.config, batch
                )
            except UserError as error:
                peers[name] = {'missing': str(error)}
        if steps:
            images = preprocess.normalise(batch['image'])
            logits = jax.jit(experiment.model.apply)(variables, images)  # [B, K]
        for name, found in steps.items():
            # Relative to the largest: the head has hardly been trained, so the logits are small.
            difference = float(abs(logits - found['forward']()).max() / abs(logits).max())
            peers[name] = {'is': versions(name, 'torch'), 'largest_difference': difference}
    results = _in_turn(ours, steps, ours.config.batch_size, rounds)
    size = list(preprocess.image_size)
    examples = 'x'.join(map(str, size))
    return results | {'unit': 'images', 'image_size': size, 'examples': examples, 'peers': peers}


def _measure_input(
    steps: _Steps, batches: Iterator[Mapping[str, np.ndarray]], rounds: int
) -> dict[str, Any]:
    """Measures images read a second, in turn with the peers; a turn is 1 s after 1 s of warm-up."""
    sources: dict[str, Iterator[Mapping[str, Any]]] = {'ours': batches}
    peers: dict[str, dict[str, Any]] = {}
    for name in INPUT_PEERS:
        try:
            sources[name] = batches_of_peer(name, steps.experiment.data.preprocess, steps.config)
        except UserError as error:
            peers[name] = {'missing': str(error)}
    rates = {name: np.zeros(1 + rounds) for name in sources}
    for turn in range(1 + rounds):  # the first starts threads and processes
        for name, source in sources.items():
            rates[name][turn] = benchmark.images_per_second(source, seconds=1)
    ours, *others = (rate[1:] for rate in rates.values())
    for name, theirs in zip(list(sources)[1:], others, strict=True):
        peers[name] = {
            'is': f'{name} {import_peer(name).__version__}',
            'images_per_second': median_and_spread(theirs),
            'ratio': median_and_spread(ours / theirs),
        }
    return {'images_per_second': median_and_spread(ours), 'peers': peers}


def _measure_translation(
    ours: _Steps, batch: Mapping[str, np.ndarray], rounds: int
) -> dict[str, Any]:
    """Measures steps and decoding of a translation model in tokens a second, without padding."""
    experiment = ours.experiment
    count = sum(int((batch[f'{side}_segment'] > 0).sum()) for side in ('source', 'target'))
    results = _in_turn(ours, {}, count, rounds)
    results |= {'unit': 'tokens', 'examples': f'{SENTENCE} + {SENTENCE} tokens'}
    model: Any = experiment.model
    results['decoding'] = compare_decoders(
        model,
        ours.state.variables,
        batch_size=ours.config.batch_size,
        rounds=rounds,
    )
    return results


def _in_turn(
    ours: _Steps,
    steps_of_peers: Mapping[str, Mapping[str, Callable[[], Any]]],
    count: int,
    rounds: int,
) -> dict[str, Any]:
    """Times both steps, in turn with those of the peers and with a matrix product.

    Args:
      ours: the steps.
      steps_of_peers: peer -> 'forward' and 'train_step'.
      count: images or tokens of the batch.
      rounds: how often each is timed.
    """
    config = ours.config
    side = 2048 if jax.default_backend() == 'cpu' else 8192
    square = jnp.ones((side, side))
    multiply = jax.jit(jnp.matmul)
    functions = {
        'matmul': lambda: multiply(square, square),
        'forward': ours.forward,
        'train_step': ours.train_step,
    }
    for peer, steps in steps_of_peers.items():
        functions |= {f'{peer} {name}': function for name, function in steps.items()}
    with ours.experiment.context():
        benchmark.seconds_in_turn(functions, _WARM_UP)
        seconds = benchmark.seconds_in_turn(functions, rounds)

    _, flops = model_cost(ours.experiment.model)
    flops *= config.batch_size / jax.device_count()  # on one device
    work = {'matmul': 2 * side**3, 'forward': flops, 'train_step': 3 * flops}
    rates = {name: work[name] / seconds[name] for name in work}  # FLOPs a second, by round
    results = {
        'model': config.model.name,
        'batch_size': config.batch_size,
        'compute': config.precision.compute,
        'devices': [device.device_kind for device in jax.devices()],
        'import_seconds': benchmark.seconds_to_import(IMPORTS, min(rounds, 5)),
        'first_step_seconds': ours.clock,
        'temporary_bytes': ours.temporary_bytes,
        'matmul': {'side': side, 'flops_per_second': median_and_spread(rates['matmul'])},
    }
    for name in ('forward', 'train_step'):
        results[name] = {
            'seconds': median_and_spread(seconds[name]),
            'flops_per_second': median_and_spread(rates[name]),
            'share_of_matmul': median_and_spread(rates[name] / rates['matmul']),
            'per_second': median_and_spread(count / seconds[name]),
        }
        theirs = {peer: seconds[f'{peer} {name}'] for peer in steps_of_peers}
        results[name]['peers'] = {
            peer: {
                'seconds': median_and_spread(times),
                'ratio': median_and_spread(times / seconds[name]),
            }
            for peer, times in theirs.items()
        }
    return results
