"""Is A better than B? Tests on the samples that both answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hero_ray.stats.intervals import (
    Clusters,
    Floats,
    Item,
    cluster_codes,
    cluster_sums,
    composite_interval,
    standard_error,
    t_quantile,
    t_tail,
)


@dataclass(frozen=True)
class Paired:
    """The comparison of two cells on their shared samples; figures are A minus B.

    Attributes:
        n, n_clusters: shared samples and their distinct pictures.
        mean_a, mean_b, difference, low, high, se: means, their difference and its interval.
        p_value: two-sided.
        test: `mcnemar-exact` (0/1 scores, one question per picture) or `cluster-permutation`.
        wins, losses, ties: samples on which A scored more, less, the same.
    """

    n: int
    n_clusters: int
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    se: float
    p_value: float
    test: str
    wins: int
    losses: int
    ties: int

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `undecided`, by the two-sided p at 5 %."""
        if self.p_value >= 0.05:
            return "undecided"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class OneSided:
    """Whether a mean exceeds a bound.

    Attributes:
        value: mean of the tested quantity; the claim is `value >= 0`.
        low, high: two-sided bounds at the level asked for (their one-sided error is half the rest).
        p_claim: p of the claim's opposite; small means the claim is shown.
        p_against: p of the claim itself; small means it is refuted.
    """

    value: float
    low: float | None
    high: float | None
    p_claim: float
    p_against: float
    n: int
    n_clusters: int


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided McNemar p: discordant pairs are fair coin flips under the null."""
    discordant = wins + losses
    if discordant == 0:
        return 1.0
    return min(1.0, 2.0 * float(special.bdtr(min(wins, losses), discordant, 0.5)))


def sign_flip(sums: ArrayLike, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p of a permutation test that swaps A and B inside whole clusters.

    Draws that tie with the observed sum count half (mid-p): sums of 0/1 scores tie often, and counting ties in full
    holds the error of a nominal 5 % test well below 5 %.

    Args:
        sums: per cluster, the sum of A - B.
    """
    signed = np.asarray(sums, dtype=float)
    array = np.abs(signed[signed != 0])
    if array.size == 0:
        return 1.0
    observed, rounding = abs(float(signed.sum())), 1e-9 * float(array.sum())
    draws = np.abs(_flipped(array, resamples, np.random.default_rng(seed)))
    above = int((draws > observed + rounding).sum())
    ties = int((np.abs(draws - observed) <= rounding).sum())
    return (above + 0.5 * (ties + 1)) / (resamples + 1)


def _flipped(array: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Sums of `array` under random signs. Equal values are drawn together: m signs are one binomial."""
    sizes, counts = np.unique(np.round(array, 12), return_counts=True)
    if sizes.size <= 256:
        heads = rng.binomial(counts, 0.5, size=(resamples, sizes.size))
        return (2 * heads - counts) @ sizes
    draws = np.empty(resamples)
    for start in range(0, resamples, 500):
        stop = min(start + 500, resamples)
        bits = np.unpackbits(rng.integers(0, 256, (stop - start, -(-array.size // 8)), dtype=np.uint8), axis=1)
        draws[start:stop] = (2.0 * bits[:, : array.size] - 1.0) @ array
    return draws


def _is_binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def paired(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Paired:
    """Compare A and B on the same samples, in the same order.

    0/1 scores with one question per picture get McNemar's exact test, everything else the cluster permutation test;
    the interval of the difference is the cluster t interval in both cases.

    Raises:
        ValueError: unequal lengths or no samples.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"expected two equally long sets of scores, got {first.size} and {second.size}")
    difference = first - second
    codes, count = cluster_codes(clusters, first.size)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    se, _ = standard_error(difference, clusters)
    if count == first.size and _is_binary(first) and _is_binary(second):
        p_value, test = mcnemar(wins, losses), "mcnemar-exact"
    else:
        p_value, test = sign_flip(cluster_sums(difference, codes, count), resamples, seed), "cluster-permutation"
    half = t_quantile((1 + level) / 2, count - 1) * se if count > 1 else None
    mean = float(difference.mean())
    return Paired(
        n=first.size,
        n_clusters=count,
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        difference=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        se=se,
        p_value=p_value,
        test=test,
        wins=wins,
        losses=losses,
        ties=first.size - wins - losses,
    )


def one_sided(values: ArrayLike, clusters: Clusters = None, level: float = 0.90) -> OneSided:
    """Test `mean(values) >= 0` in both directions with the cluster t statistic.

    `level` 0.90 gives bounds whose one-sided error is 5 %. Values without any spread (two cells that answered alike)
    decide by their sign; a single cluster decides nothing.
    """
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    se, count = standard_error(array, clusters)
    if count < 2:
        return OneSided(mean, None, None, 1.0, 1.0, array.size, count)
    return decide(mean, se, count, array.size, level)


def decide(value: float, se: float, count: int, n: int, level: float = 0.90) -> OneSided:
    """Both one-sided t tests of `value >= 0` for a standard error over `count` clusters."""
    if se <= 1e-12:
        claim = value >= -1e-12
        return OneSided(value, value, value, 0.0 if claim else 1.0, 1.0 if claim else 0.0, n, count)
    t, half = value / se, t_quantile((1 + level) / 2, count - 1) * se
    return OneSided(value, value - half, value + half, t_tail(t, count - 1), t_tail(-t, count - 1), n, count)


def non_inferiority(
    a: ArrayLike, b: ArrayLike, margin: float, clusters: Clusters = None, level: float = 0.90
) -> OneSided:
    """Is A worse than B by less than `margin` (same unit as the scores)? `p_claim` is the answer's p value."""
    return one_sided(np.asarray(a, dtype=float) - np.asarray(b, dtype=float) + margin, clusters, level)


def paired_composite(
    fn: Callable[[Sequence[Item]], float],
    a: Sequence[Item],
    b: Sequence[Item],
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
) -> Paired:
    """Compare A and B by a figure that is no mean: cluster bootstrap for the interval, cluster swaps for p.

    `wins`, `losses` and `ties` are 0: a composite has no per-sample outcome of its own.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"expected two equally long sets of answers, got {len(a)} and {len(b)}")
    codes, count = cluster_codes(clusters, len(a))
    first, second = float(fn(a)), float(fn(b))
    difference = first - second

    def gap(pairs: Sequence[tuple[Item, Item]]) -> float:
        return fn([pair[0] for pair in pairs]) - fn([pair[1] for pair in pairs])

    pairs = list(zip(a, b, strict=True))
    rng = np.random.default_rng(seed)
    swapped = np.empty(resamples)
    for i in range(resamples):
        flip = rng.integers(0, 2, count)[codes]
        swapped[i] = gap([(y, x) if turned else (x, y) for (x, y), turned in zip(pairs, flip, strict=True)])
    rounding = 1e-9 * max(1.0, abs(first), abs(second))
    above = int((np.abs(swapped) > abs(difference) + rounding).sum())
    ties = int((np.abs(np.abs(swapped) - abs(difference)) <= rounding).sum())
    interval = composite_interval(gap, pairs, clusters, level, resamples, seed)
    p_value = (above + 0.5 * (ties + 1)) / (resamples + 1) if difference or above else 1.0
    return Paired(
        len(a), count, first, second, difference, interval.low, interval.high, interval.se, p_value,
        "cluster-swap", 0, 0, 0,
    )  # fmt: skip


def shared(ids_a: NDArray[np.object_], ids_b: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in A and in B of the sample ids that both hold, in a common order."""
    _, first, second = np.intersect1d(ids_a.astype(str), ids_b.astype(str), assume_unique=True, return_indices=True)
    return first.astype(np.int64), second.astype(np.int64)


def detectable(se: float, power: float = 0.8, alpha: float = 0.05, df: float = math.inf) -> float:
    """Smallest true difference that a two-sided test at `alpha` finds with probability `power`."""
    return (_quantile(1 - alpha / 2, df) + _quantile(power, df)) * se


def predicted_power(effect: float, se: float, alpha: float = 0.05) -> float:
    """Chance that a two-sided test at `alpha` finds a true difference of `effect`."""
    z = float(special.ndtri(1 - alpha / 2))
    return float(special.ndtr(abs(effect) / se - z) + special.ndtr(-abs(effect) / se - z))


def _quantile(probability: float, df: float) -> float:
    return float(special.ndtri(probability)) if math.isinf(df) else t_quantile(probability, df)
