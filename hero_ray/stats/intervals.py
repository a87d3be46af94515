"""How sure is a figure? Intervals for means and composites of samples that share pictures.

Questions about one picture succeed and fail together, so the picture is the unit of evidence, not the question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hero_ray.stats.clusters import Clusters, cluster_codes, cluster_sums
from hero_ray.stats.evidence import FIGURE, Evidence, Floats, lower_bound, weigh

Item = TypeVar("Item")
ENOUGH = 5
"""Pictures' worth of the rarer answer from which an interval of a share is taken at its word."""


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Attributes:
        value, low, high: the figure and its bounds; bounds are None where nothing can be said (a single picture).
        kind: how it was made: `cluster-wilson`, `cluster-t`, `cluster-bootstrap` or `none`.
        n, n_clusters: samples and distinct pictures.
        se: standard error of the value; NaN where unknown.
        one_sided: the value lies at the end of its scale; the interval goes one way only (all right, all wrong).
        never_varies: every picture has the same mean, so that the interval rests on the number of pictures alone.
            An answerer that always says the same looks like this.
        too_few_pictures: fewer than about 5 pictures' worth of right or of wrong answers: nominal 95 % is not kept.
    """

    value: float
    low: float | None
    high: float | None
    kind: str
    n: int
    n_clusters: int
    se: float
    one_sided: bool = False
    never_varies: bool = False
    too_few_pictures: bool = False


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t (scipy.stats costs half a second to import; its special functions do not)."""
    return float(special.stdtrit(df, probability))


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t."""
    return float(special.stdtr(df, -t))


def standard_error(values: ArrayLike, clusters: Clusters = None) -> tuple[float, int]:
    """Standard error of the mean when whole clusters are drawn, and the number of clusters.

    Linearised ratio of cluster totals to cluster sizes: with one sample per cluster it is the usual s / sqrt(n).
    """
    array = np.asarray(values, dtype=float)
    codes, count = cluster_codes(clusters, len(array))
    if count < 2:
        return math.nan, count
    residuals = cluster_sums(array - array.mean(), codes, count)
    return float(math.sqrt(count / (count - 1) * float(residuals @ residuals)) / len(array)), count


def summarise(values: Floats, codes: NDArray[np.int64], count: int) -> Evidence:
    """Evidence of samples about their mean, from the cluster number of each; two clusters at least."""
    sums, sizes = cluster_sums(values, codes, count), np.bincount(codes, minlength=count)
    return weigh(sums, sizes, float(values @ values))


def mean_interval(values: ArrayLike, clusters: Clusters = None, level: float = 0.95) -> Interval:
    """Interval of a mean over samples clustered by picture.

    Scores within [0, 1] get the bounds of `hero_ray.stats.evidence` with Wilson's form (`cluster-wilson`), other
    values the t interval with Bell and McCaffrey's variance and degrees of freedom (`cluster-t`).

    Where all C pictures have the same mean m no variance can be seen. What C pictures exclude is only that more than
    u = 1 - 0.025^(1 / C) of all pictures are unlike them (the rule of three): [m (1 - u), m + (1 - m) u]. No cell with
    a wrong answer has a lower bound above that of an all-right one, [1 - u, 1]. Values outside [0, 1] that never vary
    have no bounds.

    Raises:
        ValueError: no values, or a value that is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"expected finite scores, got {array.size} of which {int((~np.isfinite(array)).sum())} are not"
        )
    mean = float(array.mean())
    shares = array.min() >= 0.0 and array.max() <= 1.0
    codes, count = cluster_codes(clusters, array.size)
    if count < 2:
        return Interval(mean, None, None, "none", array.size, count, math.nan)
    evidence = summarise(array, codes, count)
    se, kind = math.sqrt(float(evidence.variance)), "cluster-wilson" if shares else "cluster-t"
    flags = _flags(evidence, mean if shares else None)
    if not shares:
        half = t_quantile((1 + level) / 2, float(evidence.df)) * se if se > 0 else math.nan
        low, high = (None, None) if math.isnan(half) else (mean - half, mean + half)
        return Interval(mean, low, high, kind, array.size, count, se, **flags)
    low, high = map(float, share_bounds(evidence, (1 - level) / 2))
    return Interval(mean, low, high, kind, array.size, count, se, **flags)


def share_bounds(evidence: Evidence, alpha: float) -> tuple[Floats, Floats]:
    """Both bounds of a share of 1, each missing it with chance `alpha`; see `mean_interval`."""
    rule, mean = 1 - alpha ** (1 / evidence.count), evidence.value
    below = lower_bound(evidence, alpha, mean, FIGURE, share=True)
    above = 1 - lower_bound(evidence.mirrored.plus(1.0), alpha, 1 - mean, FIGURE, share=True)
    alike = evidence.variance <= 0
    low = np.where(alike, mean * (1 - rule), np.maximum(0.0, np.minimum(below, 1 - rule)))
    high = np.where(alike, mean + (1 - mean) * rule, np.minimum(1.0, np.maximum(above, rule)))
    return low, high


def _flags(evidence: Evidence, share: float | None) -> dict[str, bool]:
    """What a reader must know about an interval; see `Interval`."""
    rare = 1.0 if share is None else min(share, 1 - share)
    return {
        "one_sided": share is not None and rare <= 0,
        "never_varies": bool(evidence.variance <= 0),
        "too_few_pictures": bool(0 < rare / float(evidence.unit) < ENOUGH),
    }


def members(codes: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Positions of the samples of every cluster."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=count))[:-1])


def bootstrap(
    fn: Callable[[Sequence[Item]], float],
    items: Sequence[Item],
    clusters: Clusters = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Floats:
    """`fn` on `resamples` draws of whole clusters with replacement: [resamples].

    A picture drawn twice appears twice with equal sample keys; figures that pair or rotate questions must count such
    repetitions apart (benchmarks do).
    """
    codes, count = cluster_codes(clusters, len(items))
    groups = members(codes, count)
    rng = np.random.default_rng(seed)
    found = np.empty(resamples)
    for i in range(resamples):
        drawn = np.concatenate([groups[cluster] for cluster in rng.integers(0, count, count)])
        found[i] = fn([items[position] for position in drawn])
    return found


def drawn_sums(counts: Floats, clusters: Clusters = None, resamples: int = 1000, seed: int = 0) -> Iterator[Floats]:
    """Sums over the samples that `bootstrap` draws, some resamples at a time: [some, k] each.

    Args:
        counts: what each sample adds: [n, k].
    """
    codes, count = cluster_codes(clusters, len(counts))
    sums = np.stack([cluster_sums(column, codes, count) for column in counts.T], axis=1)
    rng = np.random.default_rng(seed)
    for some in np.array_split(np.arange(resamples), max(1, resamples * count // 1_000_000)):
        weights = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in some]
        yield np.asarray(weights, dtype=float) @ sums


def bootstrap_interval(
    fn: Callable[[Sequence[Item]], float],
    items: Sequence[Item],
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float] | None:
    """Low, high and standard error of a figure by cluster bootstrap; None for a single cluster or an undefined figure.

    See `bounds_of_draws`.
    """
    _, count = cluster_codes(clusters, len(items))
    return bounds_of_draws(bootstrap(fn, items, clusters, resamples, seed), count, level) if count > 1 else None


def bounds_of_draws(draws: Floats, count: int, level: float = 0.95) -> tuple[float, float, float] | None:
    """Percentile bounds and standard error, widened by sqrt(C / (C - 1)).

    Resampling C clusters shows too little spread by that factor. Resamples on which the figure is undefined (NaN) are
    left out.
    """
    draws = draws[np.isfinite(draws)]
    if count < 2 or draws.size < 20:
        return None
    widen, centre = math.sqrt(count / (count - 1)), float(np.median(draws))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    bounds = centre - widen * (centre - float(low)), centre + widen * (float(high) - centre)
    return *bounds, float(draws.std(ddof=1)) * widen


def composite_interval(
    fn: Callable[[Sequence[Item]], float],
    scored: Sequence[Item],
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    scale: float = 1.0,
    draws: Floats | None = None,
) -> Interval:
    """Interval of a figure that is no plain mean (MME sum, F1, circular accuracy), by cluster bootstrap.

    A sample without a wrong answer redraws only itself, so the rule of three bounds what pictures that were not seen
    could change: u = 1 - 0.025^(1 / C) of the figure downwards, and of `scale` upwards where everything is wrong.

    Args:
        fn: a figure that is 0 where everything is wrong.
        scale: what it is out of (2000 for MME).
        draws: the figure on every resample, where it was computed otherwise.
    """
    value = float(fn(scored))
    _, count = cluster_codes(clusters, len(scored))
    if draws is None and count > 1:
        draws = bootstrap(fn, scored, clusters, resamples, seed)
    found = None if draws is None else bounds_of_draws(draws, count, level)
    if found is None:
        return Interval(value, None, None, "none", len(scored), count, math.nan)
    low, high, se = found
    rule = 1 - ((1 - level) / 2) ** (1 / count)
    fixed = high - low <= 1e-9 * scale
    low, high = min(value * (1 - rule), max(0.0, low)), max(value, high) if value > 0 else max(high, rule * scale)
    se = max(se, (high - low) / 3) if fixed else se
    kind = "cluster-bootstrap"
    return Interval(value, low, high, kind, len(scored), count, se, one_sided=fixed, never_varies=fixed)
