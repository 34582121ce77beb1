"""Timing: functions called in turn, imports in new processes, and the speed of the input pipeline."""

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
    """Times each function once a round, until its result is computed: name -> seconds [rounds].

    The functions take turns, so that other load on the machine slows all of them alike, and ratios within
    a round are meaningful on a busy machine. There is no warm-up.
    """
    seconds: dict[str, np.ndarray] = {name: np.zeros(rounds) for name in functions}
    for turn in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name][turn] = time.perf_counter() - start
    return seconds


def seconds_to_import(statements: Mapping[str, str], rounds: int) -> dict[str, float]:
    """Times import statements, each in a new process: name -> median seconds.

    Args:
      statements: name -> statement, such as 'import jax'.
      rounds: number of processes for each statement.
    """
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(rounds):
        for name, statement in statements.items():
            code = (
                f'import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)'
            )
            # -P: the current folder may hold a folder of that name, which must not be imported.
            command = [sys.executable, '-P', '-c', code]
            process = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds[name].append(float(process.stdout.split()[-1]))
    return {name: float(np.median(times)) for name, times in seconds.items()}


def median_and_spread(values: np.ndarray) -> dict[str, float]:
    """The median, and as 'spread' the interquartile range divided by the median."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {'median': float(median), 'spread': float((high - low) / median)}


def versions(*names: str) -> str:
    """Names and versions of installed packages, such as 'timm 1.0.31, torch 2.9.1'."""
    return ', '.join(f'{name} {importlib.metadata.version(name)}' for name in names)


def images_per_second(batches: Iterator[Mapping[str, np.ndarray]], seconds: float) -> float:
    """Images a second from an endless input, without other work between batches.

    Batches are taken for `seconds` before the measurement starts, to use up what was prefetched; then they
    are counted for `seconds`.
    """
    count, start = 0, time.perf_counter() + seconds
    while (now := time.perf_counter()) < start + seconds or not count:
        batch = next(batches)
        if now >= start:
            count += len(batch['image'])
    return count / (time.perf_counter() - start)


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Writes JPEGs of noise whose amplitude falls as 1 / frequency, as that of photographs does.

    (Field 1987, "Relations between the statistics of natural images and the response properties of cortical
    cells".) They take as long to decode as photographs of the same size. The classes are the subfolders 'a'
    and 'b', with half of the images each.

    Args:
      folder: in which the subfolders are made.
      count: number of images.
      size: height and width in pixels.
    """
    height, width = size
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    amplitude = 1 / np.maximum(frequency, 1 / width)  # [H, W / 2 + 1]
    for index in range(count):
        phases = np.exp(2j * np.pi * rng.random((4, *amplitude.shape)))
        *colour, light = np.fft.irfft2(amplitude * phases, (height, width))  # [H, W] each
        image = np.stack(colour, axis=-1) / 4 + light[..., None]  # similar in all channels
        image = 128 + 55 * (image - image.mean()) / image.std()
        path = folder / 'ab'[index % 2] / f'{index}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=90)
