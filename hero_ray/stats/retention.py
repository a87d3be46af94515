"""Share of the unpruned score that a method keeps, and where it keeps it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hero_ray.stats.intervals import Clusters, Interval, cluster_codes, cluster_sums, mean_interval, t_quantile


@dataclass(frozen=True)
class Part:
    """One benchmark of a retention average: scores of the method and of the unpruned model on the same samples."""

    scores: Sequence[float] | NDArray[np.float64]
    full: Sequence[float] | NDArray[np.float64]
    clusters: Clusters = None


def retention_average(parts: Mapping[str, Part], level: float = 0.95) -> Interval:
    """Mean over benchmarks of score / unpruned score (PTP's "Avg. acc.", as a share).

    The interval is the cluster t interval of the linearised ratios; pictures that occur in several benchmarks are one
    cluster throughout, and pairing with the unpruned model is kept.

    Raises:
        ValueError: no benchmark, or one on which the unpruned model scores nothing.
    """
    if not parts:
        raise ValueError("a retention average needs at least one benchmark")
    influence: dict[Hashable, float] = {}
    ratios, n = [], 0
    for name, part in parts.items():
        ratio, moved = _linearised(name, part)
        ratios.append(ratio)
        n += len(part.scores)
        for cluster, term in moved.items():
            influence[cluster] = influence.get(cluster, 0.0) + term / len(parts)
    value, count = float(np.mean(ratios)), len(influence)
    if count < 2:
        return Interval(value, None, None, "none", n, count, math.nan)
    terms = np.fromiter(influence.values(), dtype=float)
    se = math.sqrt(count / (count - 1) * float(terms @ terms))
    half = t_quantile((1 + level) / 2, count - 1) * se
    return Interval(value, value - half, value + half, "cluster-t", n, count, se)


def _linearised(name: str, part: Part) -> tuple[float, dict[Hashable, float]]:
    """score / full, and by how much each cluster moves it."""
    scores, full = np.asarray(part.scores, dtype=float), np.asarray(part.full, dtype=float)
    if scores.size == 0 or full.sum() <= 0:
        raise ValueError(f"the unpruned model scores nothing on {name}; a share of nothing is undefined")
    ratio = float(scores.sum() / full.sum())
    codes, count = cluster_codes(part.clusters, scores.size)
    terms = cluster_sums(scores - ratio * full, codes, count) / full.sum()
    if part.clusters is None:
        keys: list[Hashable] = [(name, i) for i in range(count)]
    else:
        keys = [None] * count
        for code, cluster in zip(codes, part.clusters, strict=True):
            keys[code] = cluster
    return ratio, dict(zip(keys, terms.tolist(), strict=True))


@dataclass(frozen=True)
class Split:
    """A method's score on samples that a cheap look solves, and on those it does not; None where there are none."""

    simple: Interval | None
    difficult: Interval | None


def difficulty_split(
    scores: ArrayLike, cheap: ArrayLike, clusters: Clusters = None, threshold: float = 0.5, level: float = 0.95
) -> Split:
    """Split samples by whether the `downsample` baseline succeeds (score >= `threshold`).

    Only difficult samples can tell a token selection from a smaller picture.
    """
    values = np.asarray(scores, dtype=float)
    simple = np.asarray(cheap, dtype=float) >= threshold
    keys = np.arange(values.size) if clusters is None else np.asarray(list(clusters), dtype=object)

    def part(mask: NDArray[np.bool_]) -> Interval | None:
        return mean_interval(values[mask], keys[mask], level) if mask.any() else None

    return Split(part(simple), part(~simple))
