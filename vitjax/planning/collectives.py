"""Collectives of a compiled program: device groups, and bytes sent with the ring algorithms."""

import math
import re

import numpy as np

COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')


def groups(attributes: str, devices: int) -> np.ndarray:
    """Device ids of the groups of a collective, [groups, devices of a group].

    Args:
      attributes: of the instruction, as HLO text.
      devices: number of devices; without `replica_groups` they are one group.

    >>> groups('replica_groups={{0,1},{2,3}}', 4).tolist()
    [[0, 1], [2, 3]]
    >>> groups("replica_groups=mesh['a'=4,'b'=2] {'a':(1)2}", 8).tolist()
    [[0, 4], [1, 5], [2, 6], [3, 7]]
    """
    if match := re.search(r'replica_groups=\{(\{[\d,{}]+\})\}', attributes):
        listed = [_numbers(group) for group in re.findall(r'[\d,]+\d|\d', match[1])]
        size = max(map(len, listed))
        return np.array([group for group in listed if len(group) == size])
    if match := re.search(r'replica_groups=\[\d+,(\d+)\]<=(\S+)', attributes):
        return _ids(match[2]).reshape(-1, int(match[1]))
    match = re.search(r'replica_groups=@?mesh\w*\[([^\]]*)\]([^{]*)\{([^}]*)\}', attributes)
    if not match:
        return np.arange(devices)[None]
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[1])}
    shape = tuple(sizes.values())
    order = re.search(r'device_ids=\((\S+)\)', match[2])
    ids = _ids(order[1]) if order else np.arange(math.prod(shape))
    # Devices are in one group if they have equal coordinates on the axes that the collective does not
    # span. It spans an axis entirely, or the middle part of an axis split into (before, size, after).
    left = dict(zip(sizes, np.indices(shape), strict=True))
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", match[3]):
        before, size = int(before or 1), int(size or sizes[name])
        step = sizes[name] // (before * size)
        left[name] = left[name] - left[name] // step % size * step
    place = np.ravel_multi_index(tuple(left.values()), shape).ravel()
    ordered = ids.ravel()[np.argsort(place, kind='stable')]
    return ordered.reshape(len(set(place)), -1)


def _ids(order: str) -> np.ndarray:
    """Device ids from a list, or from `[4,2]T(1,0)`: a range in that shape, transposed."""
    match = re.match(r'\[([\d,]+)\](?:T\(([\d,]+)\))?', order)
    if not match:
        return np.array(_numbers(order))
    shape, axes = match.groups()
    ids = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return ids.transpose(_numbers(axes)) if axes else ids


def _numbers(listed: str) -> list[int]:
    return [int(number) for number in re.findall(r'\d+', listed)]


def share(kind: str, group: int) -> float:
    """Bytes that each device of a group sends in a collective, divided by the bytes of its input."""
    if kind in ('collective-permute', 'one-to-one'):  # the latter between slices of TPUs
        return 1
    if kind == 'all-gather':
        return group - 1
    return (2 if kind == 'all-reduce' else 1) * (group - 1) / group


def share_beyond(kind: str, attributes: str, devices: int, island: int) -> float:
    """The fraction of the bytes sent in a collective that goes to another island.

    Args:
      kind: of the collective.
      attributes: of the instruction, as HLO text.
      devices: number of devices.
      island: number of devices of an island, a slice of TPUs or a machine of GPUs.
    """
    if kind == 'collective-permute':
        pairs = re.search(r'source_target_pairs=\{(\{[\d,{}]+\})\}', attributes)
        ends = np.array(_numbers(pairs[1])).reshape(-1, 2) // island if pairs else np.zeros((1, 2))
        return float(np.mean(ends[:, 0] != ends[:, 1]))
    islands = groups(attributes, devices) // island  # [groups, g]
    if kind == 'all-to-all':  # sends as much to each other device
        apart = islands[:, :, None] != islands[:, None, :]
        return float(apart.sum() / apart[:, 0].size / max(1, islands.shape[1] - 1))
    # A ring through several islands has one link that leaves each of them.
    counts = [len(set(group)) for group in islands.tolist()]
    return sum(count for count in counts if count > 1) / islands.size
