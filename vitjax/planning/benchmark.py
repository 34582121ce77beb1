"""What takes how long: calls timed in turn, imports in fresh processes, and input as it streams."""

import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image


def seconds_in_turn(
    functions: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, np.ndarray]:
    """Seconds [rounds] of each function's calls, their arrays computed; nothing is warmed up.

    The functions take turns, so that what else the machine does at the time falls on all of them
    alike and the ratios within a round mean something on a busy machine.
    """
    seconds = {name: np.zeros(rounds) for name in functions}
    for turn in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name][turn] = time.perf_counter() - start
    return seconds


def seconds_to_import(statements: Mapping[str, str], rounds: int) -> dict[str, float]:
    """Name -> statement, such as 'import jax'; name -> median seconds of it, each in a new process."""
    seconds = {name: [] for name in statements}
    for _ in range(rounds):
        for name, statement in statements.items():
            code = (
                f'import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)'
            )
            # -P: not from a folder of that name where one happens to be.
            command = [sys.executable, '-P', '-c', code]
            process = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds[name].append(float(process.stdout.split()[-1]))
    return {name: float(np.median(times)) for name, times in seconds.items()}


def median_and_spread(values: np.ndarray) -> dict[str, float]:
    """The median, and the interquartile range as a share of it."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {'median': float(median), 'spread': float((high - low) / median)}


def versions(*names: str) -> str:
    """Installed packages with their versions, in words."""
    return ', '.join(f'{name} {importlib.metadata.version(name)}' for name in names)


def images_per_second(batches: Iterator[Mapping[str, np.ndarray]], seconds: float) -> float:
    """How many images an endless input yields to one who only takes them.

    It takes them as long before it counts, until what was read ahead is used up.
    """
    count, start = 0, time.perf_counter() + seconds
    while (now := time.perf_counter()) < start + seconds or not count:
        batch = next(batches)
        if now >= start:
            count += len(batch['image'])
    return count / (time.perf_counter() - start)


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> None:
    """JPEGs of noise with the spectrum of photographs, whose amplitude falls as 1 / frequency.

    (Field 1987, "Relations between the statistics of natural images and ... cortical cells".) They
    decode as photographs of the same size do; half lie in the subfolder 'a', half in 'b'.
    """
    height, width = size
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    amplitude = 1 / np.maximum(frequency, 1 / width)  # [H, W / 2 + 1]
    for index in range(count):
        phases = np.exp(2j * np.pi * rng.random((4, *amplitude.shape)))
        *colour, light = np.fft.irfft2(amplitude * phases, (height, width))  # [H, W] each
        image = np.stack(colour, axis=-1) / 4 + light[..., None]  # channels are much alike
        image = 128 + 55 * (image - image.mean()) / image.std()
        path = folder / 'ab'[index % 2] / f'{index}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=90)
