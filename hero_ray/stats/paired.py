"""Is A better than B? Tests on the samples that both answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hero_ray.stats.clusters import Clusters, cluster_codes, cluster_sums
from hero_ray.stats.evidence import FIGURE, Floats, lower_bound
from hero_ray.stats.intervals import (
    Item,
    bootstrap_interval,
    bounds_of_draws,
    summarise,
)
from hero_ray.stats.of_sums import OfSums
from hero_ray.stats.verdicts import span_of


@dataclass(frozen=True)
class Paired:
    """The comparison of two cells on their shared samples; figures are A minus B.

    Attributes:
        n, n_clusters: shared samples and their distinct pictures.
        mean_a, mean_b, difference, low, high, se: means, their difference and its interval.
        p_value: two-sided.
        test: `mcnemar-midp` (0/1 scores, one question per picture), `cluster-permutation`, or `betting` where a cell
            was decided early.
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


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided mid-p McNemar (Fagerland et al. 2013): discordant pairs are fair coin flips under the null.

    The observed count weighs half. The exact test counts it in full and rejects equal cells in 1 to 4 % of the cases
    instead of 5.
    """
    discordant = wins + losses
    if discordant == 0:
        return 1.0
    few = min(wins, losses)
    tail = 2.0 * float(special.bdtr(few, discordant, 0.5))
    return min(1.0, tail - math.comb(discordant, few) * 0.5**discordant)


def sign_flip(sums: ArrayLike, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p of a permutation test that swaps A and B inside whole clusters.

    Sums that tie with the observed one count half (mid-p): sums of 0/1 scores tie often, and counting ties in full
    holds the error of a nominal 5 % test well below 5 %. Where the sums lie on a grid (0/1 scores, tenths, thirds) all
    sign patterns are counted exactly; otherwise `resamples` of them are drawn.

    Args:
        sums: per cluster, the sum of A - B.
    """
    signed = np.asarray(sums, dtype=float)
    array = np.abs(signed[signed != 0])
    if array.size == 0:
        return 1.0
    exact = _enumerated(array, abs(float(signed.sum())))
    if exact is not None:
        return exact
    observed, rounding = abs(float(signed.sum())), 1e-9 * float(array.sum())
    draws = np.abs(_flipped(array, resamples, np.random.default_rng(seed)))
    above = int((draws > observed + rounding).sum())
    ties = int((np.abs(draws - observed) <= rounding).sum())
    return (above + 0.5 * (ties + 1)) / (resamples + 1)


def _enumerated(array: Floats, observed: float) -> float | None:
    """The same over all 2^C sign patterns, from the characteristic function: prod cos(size x frequency) is a Fourier
    sum over the possible totals. None where the sizes share no grid that is coarse enough."""
    for step in _STEPS:
        whole = np.rint(array / step)
        if np.abs(array / step - whole).max() < 1e-6:
            break
    else:
        return None
    sizes, counts = np.unique(whole.astype(np.int64), return_counts=True)
    total = int((sizes * counts).sum())
    length = 1 << (2 * total + 1).bit_length()
    if length * sizes.size > _MOST_TERMS:
        return None
    angle = np.cos(2 * np.pi / length * np.arange(length))
    turns = np.outer(sizes, np.arange(length // 2 + 1)) % length
    chance = np.fft.irfft(np.prod(angle[turns] ** counts[:, None], axis=0), length)
    at = round(observed / step)
    return float(np.clip(chance[at] * (1.0 if at else 0.5) + 2 * chance[at + 1 : total + 1].sum(), 1e-15, 1.0))


_STEPS = (1.0, 0.5, 0.1, 1 / 3, 1 / 30)
_MOST_TERMS = 1 << 18


def _flipped(array: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Sums of `array` under random signs. Equal values are drawn together: m signs are one binomial."""
    sizes, counts = np.unique(np.round(array, 12), return_counts=True)
    if sizes.size <= 256:
        heads = rng.binomial(counts, 0.5, size=(resamples, sizes.size))
        return np.asarray((2 * heads - counts) @ sizes, dtype=float)
    draws = np.empty(resamples)
    for start in range(0, resamples, 500):
        stop = min(start + 500, resamples)
        bits = np.unpackbits(rng.integers(0, 256, (stop - start, -(-array.size // 8)), dtype=np.uint8), axis=1)
        draws[start:stop] = (2.0 * bits[:, : array.size] - 1.0) @ array
    return draws


def _is_binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def bounds(difference: ArrayLike, clusters: Clusters = None, level: float = 0.95) -> tuple[float | None, float | None]:
    """The interval of a mean difference that `paired` gives, at any level."""
    array = np.asarray(difference, dtype=float)
    low, high, _ = _two_sided(array, *cluster_codes(clusters, array.size), level)
    return low, high


def paired(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Paired:
    """Compare A and B on the same samples, in the same order.

    0/1 scores with one question per picture get McNemar's mid-p test, everything else the cluster permutation test.
    The interval of the difference is that of `hero_ray.stats.evidence`; it has no zero width where nothing differs.

    Raises:
        ValueError: unequal lengths or no samples.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"expected two equally long sets of scores, got {first.size} and {second.size}")
    difference = first - second
    codes, count = cluster_codes(clusters, first.size)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    if count == first.size and _is_binary(first) and _is_binary(second):
        p_value, test = mcnemar(wins, losses), "mcnemar-midp"
    else:
        p_value, test = sign_flip(cluster_sums(difference, codes, count), resamples, seed), "cluster-permutation"
    low, high, se = _two_sided(difference, codes, count, level)
    return Paired(
        n=first.size,
        n_clusters=count,
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        se=se,
        p_value=p_value,
        test=test,
        wins=wins,
        losses=losses,
        ties=first.size - wins - losses,
    )


def _two_sided(
    difference: Floats, codes: NDArray[np.int64], count: int, level: float
) -> tuple[float | None, float | None, float]:
    if count < 2:
        return None, None, math.nan
    evidence = summarise(difference, codes, count)
    span, alpha = span_of(difference), (1 - level) / 2
    low = float(lower_bound(evidence, alpha, span, FIGURE))
    high = -float(lower_bound(evidence.mirrored, alpha, span, FIGURE))
    return low, high, math.sqrt(float(evidence.variance))


def paired_composite(
    fn: Callable[[Sequence[Item]], float],
    a: Sequence[Item],
    b: Sequence[Item],
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
    of_sums: OfSums | None = None,
) -> Paired:
    """Compare A and B by a figure that is no mean: cluster bootstrap for the interval, cluster swaps for p.

    Where fewer than 10 swaps come as far as the difference, p is the normal tail of the swaps' own spread: a count of
    so few is noise, and no less than 1 / `resamples`, which many benchmarks' correction could never reject.
    `wins`, `losses` and `ties` are 0: a composite has no per-sample outcome of its own.

    Args:
        of_sums: the same figure from sums, where it is known: the same draws, much faster.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"expected two equally long sets of answers, got {len(a)} and {len(b)}")
    codes, count = cluster_codes(clusters, len(a))
    first, second = float(fn(a)), float(fn(b))
    difference = first - second

    def gap(pairs: Sequence[tuple[Item, Item]]) -> float:
        return fn([pair[0] for pair in pairs]) - fn([pair[1] for pair in pairs])

    pairs = list(zip(a, b, strict=True))
    if of_sums is not None:
        swapped = of_sums.swapped(codes, count, resamples, seed)
    else:
        rng = np.random.default_rng(seed)
        swapped = np.empty(resamples)
        for i in range(resamples):
            flip = rng.integers(0, 2, count)[codes]
            swapped[i] = gap([(y, x) if turned else (x, y) for (x, y), turned in zip(pairs, flip, strict=True)])
    scale = max(abs(first), abs(second)) or 1.0
    rounding = 1e-9 * scale
    above = int((np.abs(swapped) > abs(difference) + rounding).sum())
    ties = int((np.abs(np.abs(swapped) - abs(difference)) <= rounding).sum())
    p_value = (above + 0.5 * (ties + 1)) / (resamples + 1) if difference or above else 1.0
    spread = float(np.sqrt(np.mean(np.square(swapped))))
    if above + ties < 10 and spread > rounding:
        p_value = min(p_value, float(2 * special.ndtr(-abs(difference) / spread)))
    if of_sums is not None:
        found = bounds_of_draws(of_sums.gaps(clusters, resamples, seed), count, level)
    else:
        found = bootstrap_interval(gap, pairs, clusters, level, resamples, seed)
    if found is None:
        return Paired(len(a), count, first, second, difference, None, None, math.nan, p_value, "cluster-swap", 0, 0, 0)
    low, high, se = found
    rule = scale * (1 - ((1 - level) / 2) ** (1 / count)) if high - low <= rounding else 0.0
    return Paired(
        len(a), count, first, second, difference, low - rule, high + rule, max(se, rule / 3), p_value,
        "cluster-swap", 0, 0, 0,
    )  # fmt: skip


def shared(ids_a: NDArray[np.object_], ids_b: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in A and in B of the sample ids that both hold, in a common order."""
    _, first, second = np.intersect1d(ids_a.astype(str), ids_b.astype(str), assume_unique=True, return_indices=True)
    return first.astype(np.int64), second.astype(np.int64)
