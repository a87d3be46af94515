"""Share of the unpruned score that a method keeps, and where it keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hero_ray.stats.clusters import Clusters, cluster_sums, named_codes
from hero_ray.stats.evidence import FIGURE, Evidence, influences, lower_bound
from hero_ray.stats.intervals import Interval, mean_interval
from hero_ray.stats.verdicts import OneSided, judge


@dataclass(frozen=True)
class Part:
    """One benchmark of a retention average: scores of the method and of the unpruned model on the same samples."""

    scores: Sequence[float] | NDArray[np.float64]
    full: Sequence[float] | NDArray[np.float64]
    clusters: Clusters = None


@dataclass(frozen=True)
class CompositePart:
    """One benchmark whose figure is no mean of scores (MME sum, F1): `figure` of the method's and the full answers.

    Attributes:
        scale: what the figure is out of; differences are counted in shares of it.
    """

    figure: Callable[[Sequence[Any]], float]
    scores: Sequence[Any]
    full: Sequence[Any]
    clusters: Sequence[Hashable]
    scale: float = 1.0


AnyPart = Part | CompositePart
P = TypeVar("P", Part, Part | CompositePart)
Moved = tuple[Sequence[Hashable], NDArray[np.float64], NDArray[np.float64]]
"""Clusters, by how much each moves a figure, and the share of each of it."""
NUM_GROUPS = 50
"""Groups of pictures left out in turn for the error of a composite's ratio."""


def retention_average(parts: Mapping[str, AnyPart], level: float = 0.95) -> Interval:
    """Mean over benchmarks of score / unpruned score (PTP's "Avg. acc.", as a share).

    Ratios are linearised, pairing with the unpruned model is kept, and pictures that occur in several benchmarks are
    one cluster throughout. The bounds are those of `hero_ray.stats.evidence`: a method that keeps everything on C
    pictures may still lose on about 3.7 / C of them.

    Raises:
        ValueError: no benchmark, or one on which the unpruned model scores nothing.
    """
    value, terms = _average(parts, _linearised)
    n, count = sum(len(part.scores) for part in parts.values()), len(terms[0])
    if count < 2:
        return Interval(value, None, None, "none", n, count, math.nan)
    evidence = _evidence(value, terms)
    alpha, span = (1 - level) / 2, max(1.0, value)
    low = float(lower_bound(evidence, alpha, span, FIGURE))
    high = -float(lower_bound(evidence.mirrored, alpha, span, FIGURE))
    se = math.sqrt(float(evidence.variance))
    kind = "cluster-t"
    return Interval(value, max(0.0, low), high, kind, n, count, se, never_varies=se <= 0)


def retention_difference(
    a: Mapping[str, AnyPart],
    b: Mapping[str, AnyPart],
    share: float = 1.0,
    level: float = 0.90,
    offset: float = 0.0,
    sign: float = 1.0,
) -> OneSided:
    """Is `sign * (A's retention average - share * B's - offset)` above 0? Both on the same samples; `p_claim` small
    means yes."""
    (first, terms), (second, others) = _average(a, _linearised), _average(b, _linearised)
    names, moved, weights = others
    clusters, both, shares = _added([terms, (names, -share * moved, weights)])
    value = sign * (first - share * second - offset)
    return _decided(value, (clusters, sign * both, shares), sum(len(part.scores) for part in a.values()), level)


def pooled_difference(parts: Mapping[str, AnyPart], level: float = 0.90) -> OneSided:
    """Mean over benchmarks of `scores` - `full` (here any rival), tested against 0; composites by their own figure."""
    value, terms = _average(parts, _differences)
    return _decided(value, terms, sum(len(part.scores) for part in parts.values()), level)


Figure = Callable[[str, P, dict[Hashable, int]], tuple[float, Moved]]


def _average(parts: Mapping[str, P], figure: Figure[P]) -> tuple[float, Moved]:
    """Mean of a figure over benchmarks, and by how much each picture moves it.

    A composite's error comes from leaving out groups of pictures. The same picture is in the same group wherever it
    occurs, and plain means beside a composite are counted by the same groups: what is shared counts once.
    """
    if not parts:
        raise ValueError("an average over benchmarks needs at least one")
    groups = _groups(parts) if any(isinstance(part, CompositePart) for part in parts.values()) else {}
    values, found = [], []
    for name, part in parts.items():
        value, (clusters, moved, shares) = figure(name, part, groups)
        values.append(value)
        names = [groups.get(cluster, cluster) for cluster in clusters] if groups else clusters
        found.append((names, moved / len(parts), shares / len(parts)))
    return float(np.mean(values)), _added(found)


def _added(found: Sequence[Moved]) -> Moved:
    """The sums of what moves each cluster, clusters in the order in which they first come."""
    index: dict[Hashable, int] = {}
    places = [[index.setdefault(name, len(index)) for name in names] for names, *_ in found]
    moved, shares = np.zeros(len(index)), np.zeros(len(index))
    for at, (_, more, share) in zip(places, found, strict=True):
        np.add.at(moved, at, more)
        np.add.at(shares, at, share)
    return list(index), moved, shares


def _groups(parts: Mapping[str, Any]) -> dict[Hashable, int]:
    """Group of every picture of all benchmarks, dealt out in the order in which pictures first come."""
    pictures: dict[Hashable, int] = {}
    for name, part in parts.items():
        for cluster in _keys(name, part):
            pictures.setdefault(cluster, len(pictures))
    groups = min(NUM_GROUPS, len(pictures))
    return {picture: number % groups for picture, number in pictures.items()}


def _keys(name: str, part: AnyPart) -> Sequence[Hashable]:
    """The cluster of every sample; a sample without one is its own."""
    return [(name, i) for i in range(len(part.scores))] if part.clusters is None else list(part.clusters)


def _evidence(value: float, terms: Moved) -> Evidence:
    _, moved, shares = terms
    return influences(value, moved, shares / shares.sum())


def _decided(value: float, terms: Moved, n: int, level: float) -> OneSided:
    count = len(terms[0])
    if count < 2:
        return OneSided(value, None, None, 1.0, 1.0, n, count)
    return judge(_evidence(value, terms), n, level)


def _linearised(name: str, part: AnyPart, groups: dict[Hashable, int]) -> tuple[float, Moved]:
    """score / full, and by how much each cluster moves it."""
    if isinstance(part, CompositePart):
        return _jackknifed(name, part, groups)
    scores, full = np.asarray(part.scores, dtype=float), np.asarray(part.full, dtype=float)
    if scores.size == 0 or full.sum() <= 0:
        raise ValueError(f"the unpruned model scores nothing on {name}; a share of nothing is undefined")
    ratio = float(scores.sum() / full.sum())
    return ratio, _by_cluster(name, part, (scores - ratio * full) / full.sum(), full / full.sum())


def _jackknifed(name: str, part: CompositePart, groups: dict[Hashable, int]) -> tuple[float, Moved]:
    """The same for a composite."""

    def ratio(chosen: Sequence[int]) -> float:
        below = part.figure([part.full[i] for i in chosen])
        if not below > 0:
            raise ValueError(f"the unpruned model scores nothing on {name}; a share of nothing is undefined")
        return part.figure([part.scores[i] for i in chosen]) / below

    return _left_out(part, groups, ratio)


def _left_out(
    part: CompositePart, groups: dict[Hashable, int], ratio: Callable[[Sequence[int]], float]
) -> tuple[float, Moved]:
    """A figure of chosen samples, and by how much it moves when groups of pictures are left out in turn.

    Each group is told by its first picture.
    """
    of = np.array([groups[cluster] for cluster in part.clusters])
    present = np.unique(of)
    value = ratio(range(of.size))
    found = []
    for group in present if present.size > 1 else ():
        inside = of == group
        moved = (value - ratio(np.flatnonzero(~inside).tolist())) * (present.size - 1) / present.size
        found.append((part.clusters[int(np.argmax(inside))], moved, float(inside.mean())))
    firsts, moves, shares = zip(*found, strict=True) if found else ((), (), ())
    return value, (firsts, np.array(moves, dtype=float), np.array(shares, dtype=float))


def _differences(name: str, part: AnyPart, groups: dict[Hashable, int]) -> tuple[float, Moved]:
    """Mean of scores - full, and by how much each cluster moves it."""
    if isinstance(part, CompositePart):

        def gap(chosen: Sequence[int]) -> float:
            mine, base = ([side[i] for i in chosen] for side in (part.scores, part.full))
            return (part.figure(mine) - part.figure(base)) / part.scale

        return _left_out(part, groups, gap)
    difference = np.asarray(part.scores, dtype=float) - np.asarray(part.full, dtype=float)
    mean = float(difference.mean())
    size = difference.size
    return mean, _by_cluster(name, part, (difference - mean) / size, np.full(size, 1 / size))


def _by_cluster(name: str, part: Part, moved: NDArray[np.float64], shares: NDArray[np.float64]) -> Moved:
    keys = _keys(name, part) if part.clusters is None else part.clusters
    codes, names = named_codes(keys, moved.size)
    return names, cluster_sums(moved, codes, len(names)), cluster_sums(shares, codes, len(names))


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
