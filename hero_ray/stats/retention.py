"""Share of the unpruned score that a method keeps, and where it keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hero_ray.stats.intervals import Clusters, Interval, cluster_codes, cluster_sums, mean_interval, t_quantile
from hero_ray.stats.paired import OneSided, decide


@dataclass(frozen=True)
class Part:
    """One benchmark of a retention average: scores of the method and of the unpruned model on the same samples."""

    scores: Sequence[float] | NDArray[np.float64]
    full: Sequence[float] | NDArray[np.float64]
    clusters: Clusters = None


@dataclass(frozen=True)
class CompositePart:
    """One benchmark whose figure is no mean of scores (MME sum, F1): `figure` of the method's and the full answers."""

    figure: Callable[[Sequence[Any]], float]
    scores: Sequence[Any]
    full: Sequence[Any]
    clusters: Sequence[Hashable]


AnyPart = Part | CompositePart
P = TypeVar("P", Part, Part | CompositePart)
Terms = dict[Hashable, float]
NUM_GROUPS = 50
"""Groups of pictures left out in turn for the error of a composite's ratio."""


def retention_average(parts: Mapping[str, AnyPart], level: float = 0.95) -> Interval:
    """Mean over benchmarks of score / unpruned score (PTP's "Avg. acc.", as a share).

    The interval is the cluster t interval of the linearised ratios; pictures that occur in several benchmarks are one
    cluster throughout, and pairing with the unpruned model is kept.

    Raises:
        ValueError: no benchmark, or one on which the unpruned model scores nothing.
    """
    value, terms = _average(parts, _linearised)
    n, count = sum(len(part.scores) for part in parts.values()), len(terms)
    if count < 2:
        return Interval(value, None, None, "none", n, count, math.nan)
    se = _spread(terms)
    half = t_quantile((1 + level) / 2, count - 1) * se
    return Interval(value, value - half, value + half, "cluster-t", n, count, se)


def retention_difference(
    a: Mapping[str, AnyPart], b: Mapping[str, AnyPart], share: float = 1.0, level: float = 0.90
) -> OneSided:
    """Is A's retention average above `share` times B's? Both on the same samples; `p_claim` small means yes."""
    (first, terms), (second, others) = _average(a, _linearised), _average(b, _linearised)
    for cluster, term in others.items():
        terms[cluster] = terms.get(cluster, 0.0) - share * term
    return _decided(first - share * second, terms, sum(len(part.scores) for part in a.values()), level)


def pooled_difference(parts: Mapping[str, Part], level: float = 0.90) -> OneSided:
    """Mean over benchmarks of `scores` - `full` (here any rival), tested against 0."""
    value, terms = _average(parts, _differences)
    return _decided(value, terms, sum(len(part.scores) for part in parts.values()), level)


def _average(parts: Mapping[str, P], figure: Callable[[str, P], tuple[float, Terms]]) -> tuple[float, Terms]:
    """Mean of a figure over benchmarks, and by how much each picture moves it."""
    if not parts:
        raise ValueError("an average over benchmarks needs at least one")
    influence: Terms = {}
    values = []
    for name, part in parts.items():
        value, moved = figure(name, part)
        values.append(value)
        for cluster, term in moved.items():
            influence[cluster] = influence.get(cluster, 0.0) + term / len(parts)
    return float(np.mean(values)), influence


def _spread(terms: Terms) -> float:
    moved = np.fromiter(terms.values(), dtype=float)
    return math.sqrt(len(terms) / (len(terms) - 1) * float(moved @ moved))


def _decided(value: float, terms: Terms, n: int, level: float) -> OneSided:
    count = len(terms)
    if count < 2:
        return OneSided(value, None, None, 1.0, 1.0, n, count)
    return decide(value, _spread(terms), count, n, level)


def _linearised(name: str, part: AnyPart) -> tuple[float, Terms]:
    """score / full, and by how much each cluster moves it."""
    if isinstance(part, CompositePart):
        return _jackknifed(name, part)
    scores, full = np.asarray(part.scores, dtype=float), np.asarray(part.full, dtype=float)
    if scores.size == 0 or full.sum() <= 0:
        raise ValueError(f"the unpruned model scores nothing on {name}; a share of nothing is undefined")
    ratio = float(scores.sum() / full.sum())
    return ratio, _by_cluster(name, part, (scores - ratio * full) / full.sum())


def _jackknifed(name: str, part: CompositePart) -> tuple[float, Terms]:
    """The same for a composite, by leaving out groups of pictures in turn."""

    def ratio(chosen: Sequence[int]) -> float:
        below = part.figure([part.full[i] for i in chosen])
        if not below > 0:
            raise ValueError(f"the unpruned model scores nothing on {name}; a share of nothing is undefined")
        return part.figure([part.scores[i] for i in chosen]) / below

    codes, count = cluster_codes(part.clusters, len(part.scores))
    groups = min(NUM_GROUPS, count)
    value, terms = ratio(range(len(codes))), {}
    for group in range(groups if groups > 1 else 0):
        without = ratio(np.flatnonzero(codes % groups != group).tolist())
        terms[name, group] = (value - without) * (groups - 1) / groups
    return value, dict(terms)


def _differences(name: str, part: Part) -> tuple[float, Terms]:
    """Mean of scores - full, and by how much each cluster moves it."""
    difference = np.asarray(part.scores, dtype=float) - np.asarray(part.full, dtype=float)
    mean = float(difference.mean())
    return mean, _by_cluster(name, part, (difference - mean) / difference.size)


def _by_cluster(name: str, part: Part, moved: NDArray[np.float64]) -> Terms:
    codes, count = cluster_codes(part.clusters, moved.size)
    terms = cluster_sums(moved, codes, count)
    if part.clusters is None:
        return {(name, i): term for i, term in enumerate(terms.tolist())}
    keys: list[Hashable] = [None] * count
    for code, cluster in zip(codes, part.clusters, strict=True):
        keys[code] = cluster
    return dict(zip(keys, terms.tolist(), strict=True))


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
