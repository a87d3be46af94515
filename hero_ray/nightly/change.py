"""The statistics of one cell: is tonight worse than the good nights, beyond what nights differ by anyway?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hero_ray.stats.intervals import t_quantile, t_tail
from hero_ray.stats.paired import sign_flip

Floats = NDArray[np.float64]

LEAST_SPREAD = 0.01
"""Nights of one machine never agree better than this (relative); guards the t statistic against a lucky window."""


def score_drop(
    tonight: Floats, past: Floats, clusters: NDArray[np.int64], min_drop: float
) -> tuple[float, float, float]:
    """Change of a mean score against the good nights, its standard error, and a one-sided p for a drop.

    Every sample is compared with its own mean over the good nights. Under the null a picture's difference is as likely
    up as down, so whole pictures flip signs. Two gates keep small or ordinary changes from being tested at all (p = 1):
    the drop must reach `min_drop`, and tonight's mean must lie below that of every good night, which also covers
    noise that all pictures of a night share.

    Args:
        tonight: scores [samples].
        past: scores [nights, samples], NaN where a night did not answer.
        clusters: picture number of every sample.
        min_drop: in score units.
    """
    baseline = np.nanmean(past, axis=0)
    difference = tonight - baseline
    sums = np.bincount(clusters, weights=difference)
    change = float(difference.mean())
    error = math.sqrt(float((sums * sums).sum())) / len(difference)
    lowest = float(np.nanmean(past, axis=1).min())
    if change > -min_drop or float(tonight.mean()) >= lowest:
        return change, error, 1.0
    return change, error, sign_flip(sums) / 2


def least_drop(difference: Floats, clusters: NDArray[np.int64], level: float, unit: float) -> float | None:
    """The smallest drop of a mean score, in score units, that `score_drop` could have shown at `level` (one-sided).

    So many whole pictures must fall, each by one question, that the sign test can reach the level; where answers also
    moved both ways (twice the smaller side), the loss must stand out from them. None with fewer pictures than that.

    Args:
        difference: tonight less the good nights' mean [samples].
        clusters: picture number of every sample.
        unit: what one lost question costs, in score units.
    """
    sums = np.bincount(clusters, weights=difference)
    pictures = math.ceil(-math.log2(level) - 1)  # all down, the observed pattern counted half: 0.5 ** (pictures + 1)
    if pictures > len(sums):
        return None
    both = 2 * min(float((sums[side] ** 2).sum()) for side in (sums > 0, sums < 0))
    z = float(special.ndtri(1 - level))
    lost = (z * z * unit + math.sqrt(z**4 * unit**2 + 4 * z * z * both)) / 2 if both else 0.0
    return max(pictures * unit, lost) / len(difference)


def more_failures(failed: int, n: int, past_failed: int, past_n: int) -> float:
    """One-sided exact p that tonight's share of failures is above the good nights' (hypergeometric tail)."""
    total, everything = failed + past_failed, n + past_n
    if failed == 0 or failed * past_n <= past_failed * n:
        return 1.0
    counts = np.arange(failed, min(total, n) + 1)
    logs = _log_choose(total, counts) + _log_choose(everything - total, n - counts) - _log_choose(everything, n)
    return min(1.0, float(np.exp(logs[n - counts <= everything - total]).sum()))


def _log_choose(a: int, b: int | NDArray[np.int64]) -> Floats:
    return np.asarray(special.gammaln(a + 1) - special.gammaln(np.add(b, 1)) - special.gammaln(np.subtract(a, b) + 1))


def slowdown(tonight: float, past: Floats, min_slowdown: float) -> tuple[float, float, float, float]:
    """Relative change of a figure with its 95 % interval, and a one-sided p for growth.

    The good nights' logarithms give a prediction interval for one more night. The same two gates as for scores: at
    least `min_slowdown`, and above every good night.

    Args:
        tonight: one figure, for example a TTFT in ms.
        past: the same figure on certificate-equal nights, at least two.

    Returns:
        (change, low, high, p); 0.15 means 15 % more than the good nights' geometric mean.
    """
    logs = np.log(past)
    df = len(logs) - 1
    spread = max(float(logs.std(ddof=1)), LEAST_SPREAD) * math.sqrt(1 + 1 / len(logs))
    moved = math.log(tonight) - float(logs.mean())
    half = t_quantile(0.975, df) * spread
    change, low, high = (math.expm1(value) for value in (moved, moved - half, moved + half))
    if change < min_slowdown or tonight <= float(past.max()):
        return change, low, high, 1.0
    return change, low, high, t_tail(moved / spread, df)
