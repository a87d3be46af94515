"""Is it shown? One-sided tests of an estimate against a bound, in both directions, from the pictures' evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hero_ray.stats.clusters import Clusters, cluster_codes
from hero_ray.stats.evidence import Evidence, Floats, lower_bound, p_at_most
from hero_ray.stats.intervals import summarise


@dataclass(frozen=True)
class OneSided:
    """Whether a mean exceeds a bound.

    Attributes:
        value: mean of the tested quantity; the claim is `value >= 0`.
        low, high: two-sided bounds at the level asked for (their one-sided error is half the rest). `low` is above 0
            exactly where `p_claim` is below that error.
        p_claim: p of the claim's opposite; small means the claim is shown.
        p_against: p of the claim itself; small means it is refuted.
        n_differing: pictures on which the two sides differ, where two sides were compared; else None.
    """

    value: float
    low: float | None
    high: float | None
    p_claim: float
    p_against: float
    n: int
    n_clusters: int
    n_differing: int | None = None


def span_of(values: Floats) -> float:
    """How far one sample's value may move: the whole scale of a score, or more where more was seen."""
    return max(1.0, float(np.ptp(values)) / 2)


def one_sided(values: ArrayLike, clusters: Clusters = None, level: float = 0.90) -> OneSided:
    """Test `mean(values) >= 0` in both directions.

    `level` 0.90 gives bounds whose one-sided error is 5 %. One sample's value is taken to be able to move by 1. Values
    without any spread (two cells that answered alike) show what so many pictures can: C of them exclude a mean below 0
    with p = (1 - mean)^C. A single cluster decides nothing.
    """
    array = np.asarray(values, dtype=float)
    codes, count = cluster_codes(clusters, array.size)
    if count < 2:
        return OneSided(float(array.mean()), None, None, 1.0, 1.0, array.size, count)
    return judge(summarise(array, codes, count), array.size, level, span_of(array))


def judge(
    evidence: Evidence, n: int, level: float = 0.90, span: float = 1.0, n_differing: int | None = None
) -> OneSided:
    """Both one-sided tests of an estimate against 0, and its bounds.

    Args:
        span: how far the value of one sample can fall below or rise above the estimate.
    """
    alpha, other = (1 - level) / 2, evidence.mirrored
    return OneSided(
        value=float(evidence.value),
        low=float(lower_bound(evidence, alpha, span)),
        high=-float(lower_bound(other, alpha, span)),
        p_claim=float(p_at_most(evidence, 0.0, span)),
        p_against=float(p_at_most(other, 0.0, span)),
        n=n,
        n_clusters=evidence.count,
        n_differing=n_differing,
    )


def decide(value: float, se: float, count: int, n: int, level: float = 0.90, span: float = 1.0) -> OneSided:
    """The same where only a standard error over `count` pictures is known (composites, by bootstrap).

    Args:
        span: what the figure would lose with all pictures lost (1 for figures divided by their scale).
    """
    if count < 2:
        return OneSided(value, None, None, 1.0, 1.0, n, count)
    zero, each = np.zeros(()), np.asarray(1 / count)
    evidence = Evidence(
        np.asarray(value), np.asarray(se**2), zero, each, each, zero, zero, np.asarray(count - 1.0), count
    )
    return judge(evidence, n, level, span)


def non_inferiority(
    a: ArrayLike, b: ArrayLike, margin: float, clusters: Clusters = None, level: float = 0.90
) -> OneSided:
    """Is A worse than B by less than `margin` (same unit as the scores)? `p_claim` is the answer's p value.

    Raises:
        ValueError: unequal lengths or no samples.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(f"expected two equally long sets of scores, got {first.size} and {second.size}")
    difference = first - second
    codes, count = cluster_codes(clusters, difference.size)
    differing = int(np.unique(codes[np.abs(difference) > 1e-12]).size)
    if count < 2:
        return OneSided(float(difference.mean()) + margin, None, None, 1.0, 1.0, difference.size, count, differing)
    evidence = summarise(difference, codes, count).plus(margin)
    return judge(evidence, difference.size, level, span_of(difference), differing)


def seen(result: OneSided, margin: float) -> str:
    """What was seen, in words: "0 of 7 pictures differ; a loss up to 35 points is not excluded".

    Args:
        margin: as given to `non_inferiority`, in score units.
    """
    if result.n_differing is None or result.low is None:
        return f"{result.n_clusters} pictures decide nothing" if result.low is None else ""
    loss = max(0.0, 100 * (margin - result.low))
    shown = f"{loss:.0f}" if loss >= 10 else f"{loss:.1f}"
    return f"{result.n_differing} of {result.n_clusters} pictures differ; a loss up to {shown} points is not excluded"
