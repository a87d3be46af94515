"""How sure is a figure? Intervals for means and composites of samples that share pictures.

Questions about one picture succeed and fail together, so the picture is the unit of evidence, not the question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Clusters = Sequence[Hashable] | NDArray[Any] | None
Item = TypeVar("Item")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Attributes:
        value, low, high: the figure and its bounds; bounds are None where nothing can be said (a single picture).
        kind: how it was made: `cluster-wilson`, `cluster-t`, `cluster-bootstrap` or `none`.
        n, n_clusters: samples and distinct pictures.
        se: standard error of the value; NaN where unknown.
    """

    value: float
    low: float | None
    high: float | None
    kind: str
    n: int
    n_clusters: int
    se: float


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t (scipy.stats costs half a second to import; its special functions do not)."""
    return float(special.stdtrit(df, probability))


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t."""
    return float(special.stdtr(df, -t))


def cluster_codes(clusters: Clusters, n: int) -> tuple[NDArray[np.int64], int]:
    """Cluster number of every sample, and how many clusters there are; None makes every sample its own.

    Raises:
        ValueError: not one cluster per sample.
    """
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise ValueError(f"{n} samples came with {len(clusters)} clusters; expected one each")
    index: dict[Hashable, int] = {}
    codes = np.fromiter((index.setdefault(key, len(index)) for key in clusters), dtype=np.int64, count=n)
    return codes, len(index)


def cluster_sums(values: Floats, codes: NDArray[np.int64], count: int) -> Floats:
    """Sum of `values` inside each cluster: [count]."""
    return np.bincount(codes, weights=values, minlength=count).astype(float)


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


def wilson(value: float, n_effective: float, quantile: float) -> tuple[float, float]:
    """Wilson's score bounds of a share: inside [0, 1], and not collapsing at 0 or 1."""
    z2 = quantile * quantile / n_effective
    centre = (value + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (value * (1 - value) + z2 / 4)) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: ArrayLike, clusters: Clusters = None, level: float = 0.95) -> Interval:
    """Interval of a mean over samples clustered by picture.

    Scores within [0, 1] get Wilson's form with the effective sample size that the clusters leave (`cluster-wilson`);
    other values the t interval (`cluster-t`). Quantiles are Student's with clusters - 1 degrees of freedom. Where all
    scores are equal the clusters themselves are counted as the sample, since no variance can be seen.

    Raises:
        ValueError: no values, or a value that is not finite.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"expected finite scores, got {array.size} of which {int((~np.isfinite(array)).sum())} are not"
        )
    mean = float(array.mean())
    se, count = standard_error(array, clusters)
    if count < 2:
        return Interval(mean, None, None, "none", array.size, count, math.nan)
    quantile = t_quantile((1 + level) / 2, count - 1)
    if array.min() >= 0.0 and array.max() <= 1.0:
        spread = mean * (1 - mean)
        n_effective = spread / se**2 if se > 1e-12 else float(count)
        low, high = wilson(mean, n_effective, quantile)
        return Interval(mean, low, high, "cluster-wilson", array.size, count, se)
    return Interval(mean, mean - quantile * se, mean + quantile * se, "cluster-t", array.size, count, se)


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


def composite_interval(
    fn: Callable[[Sequence[Item]], float],
    scored: Sequence[Item],
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval of a figure that is no plain mean (MME sum, F1, circular accuracy), by cluster bootstrap.

    Percentile bounds, widened by sqrt(C / (C - 1)): resampling C clusters shows too little spread by that factor.
    Resamples on which the figure is undefined (NaN) are left out.
    """
    value = float(fn(scored))
    _, count = cluster_codes(clusters, len(scored))
    if count < 2:
        return Interval(value, None, None, "none", len(scored), count, math.nan)
    draws = bootstrap(fn, scored, clusters, resamples, seed)
    draws = draws[np.isfinite(draws)]
    if draws.size < 20:
        return Interval(value, None, None, "none", len(scored), count, math.nan)
    widen = math.sqrt(count / (count - 1))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    centre = float(np.median(draws))
    return Interval(
        value,
        centre - widen * (centre - float(low)),
        centre + widen * (float(high) - centre),
        "cluster-bootstrap",
        len(scored),
        count,
        float(draws.std(ddof=1)) * widen,
    )
