"""Many tests at once: p values corrected for having looked more than once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hero_ray.stats.evidence import Floats


def holm(p_values: ArrayLike, at_most: int | None = None) -> Floats:
    """Holm's step-down correction: below alpha means significant with the family's error held at alpha.

    Args:
        at_most: how many of the hypotheses can be true together, where that is less than all (Shaffer 1986): of "loses
            more than the margin" and "loses less" one is false in each cell.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    factor = np.minimum(p.size - np.arange(p.size), p.size if at_most is None else at_most)
    stepped = np.maximum.accumulate(p[order] * factor)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, stepped)
    return corrected


def both_ways(p_safe: ArrayLike, p_unsafe: ArrayLike) -> tuple[Floats, Floats]:
    """Holm's correction of "safe" and "unsafe" of all cells as one family.

    Args:
        p_safe, p_unsafe: per cell, p of each claim's opposite: [cells]. Over benchmarks, safe means safe on each (the
            largest p) and unsafe means unsafe on one (`any_of`).

    Returns:
        Corrected p of both: at most one of the two is false in a cell, so the family counts cells, not claims.
    """
    first, second = np.asarray(p_safe, dtype=float), np.asarray(p_unsafe, dtype=float)
    corrected = holm(np.concatenate([first, second]), at_most=max(1, first.size))
    return corrected[: first.size], corrected[first.size :]


def any_of(p_values: ArrayLike) -> float:
    """p that at least one of several claims holds (Bonferroni): the smallest times how many there are."""
    p = np.asarray(p_values, dtype=float)
    return float(min(1.0, p.min() * p.size)) if p.size else 1.0


def holm_levels(p_values: ArrayLike, level: float = 0.95) -> Floats:
    """Level of the interval that goes with each of Holm's verdicts: it leaves out 0 exactly where Holm rejects.

    The i-th smallest of m p values is held against alpha / (m - i + 1), all from the first that fails against the
    same. Intervals at those levels agree with the verdicts; plain 95 % intervals beside them do not.
    """
    p, alpha = np.asarray(p_values, dtype=float), 1 - level
    order = np.argsort(p, kind="stable")
    limits = alpha / (p.size - np.arange(p.size))
    failing = np.flatnonzero(p[order] >= limits)
    if failing.size:
        limits[failing[0] :] = limits[failing[0]]
    levels = np.empty_like(p)
    levels[order] = 1 - limits
    return levels


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Benjamini and Hochberg's correction: below q means that at most a share q of such finds is false."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p[order] * p.size / (p.size - np.arange(p.size)))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, stepped)
    return corrected
