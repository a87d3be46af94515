"""Clusters of samples by number: which samples share a picture, and sums over what shares one."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Clusters = Sequence[Hashable] | NDArray[Any] | None
SPARSE = 64
"""Clusters told by numbers below so many times their samples are counted in an array."""
Named = tuple[NDArray[np.int64], list[Hashable]]
_known: dict[int, tuple[weakref.ref[NDArray[Any]], Named]] = {}
"""What arrays that nobody can write to came to: cells of a benchmark share the array of their pictures, and a report
numbers it hundreds of times."""


def cluster_codes(clusters: Clusters, n: int) -> tuple[NDArray[np.int64], int]:
    """Cluster number of every sample, and how many clusters there are; None makes every sample its own.

    Numbers follow the order in which clusters first come. Of a read-only array they are worked out once.

    Raises:
        ValueError: not one cluster per sample.
    """
    if clusters is None:
        return np.arange(n), n
    if isinstance(clusters, np.ndarray) and clusters.dtype.kind == "i" and len(clusters) == n and _dense(clusters):
        return _renumbered(clusters)
    codes, names = named_codes(clusters, n)
    return codes, len(names)


def named_codes(clusters: Sequence[Hashable] | NDArray[Any], n: int) -> Named:
    """Cluster number of every sample, and the clusters by their numbers; neither is to be written to.

    Raises:
        ValueError: not one cluster per sample.
    """
    if len(clusters) != n:
        raise ValueError(f"{n} samples came with {len(clusters)} clusters; expected one each")
    if not isinstance(clusters, np.ndarray):
        return _numbered(clusters)
    if clusters.flags.writeable or clusters.base is not None:  # of a view the array behind it may change
        return _numbered(clusters.tolist())
    key = id(clusters)
    held = _known.get(key)
    if held is None or held[0]() is not clusters:
        found = _numbered(clusters.tolist())
        found[0].flags.writeable = False
        held = _known[key] = weakref.ref(clusters, lambda gone: _forget(key, gone)), found
    return held[1]


def _numbered(keys: Sequence[Hashable]) -> Named:
    index = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.fromiter(map(index.__getitem__, keys), dtype=np.int64, count=len(keys)), list(index)


def _dense(numbers: NDArray[np.int64]) -> bool:
    return bool(numbers.size and numbers.min() >= 0 and numbers.max() < SPARSE * numbers.size)


def _renumbered(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Numbers anew in the order in which they are met, without a look at each."""
    first = np.full(int(numbers.max()) + 1, numbers.size)
    first[numbers[::-1]] = np.arange(numbers.size)[::-1]  # of equal places the last one written stays
    met = np.flatnonzero(first < numbers.size)
    first[met[np.argsort(first[met])]] = np.arange(met.size)
    return first[numbers], met.size


def _forget(key: int, gone: weakref.ref[NDArray[Any]]) -> None:
    held = _known.get(key)
    if held is not None and held[0] is gone:  # else another array took its place meanwhile
        del _known[key]


def cluster_sums(values: NDArray[np.float64], codes: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Sum of `values` inside each cluster: [count]."""
    return np.bincount(codes, weights=values, minlength=count).astype(float)
