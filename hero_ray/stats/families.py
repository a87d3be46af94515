"""Many tests at once: p values corrected for having looked more than once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hero_ray.stats.intervals import Floats


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction: below alpha means significant with the family's error held at alpha."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, stepped)
    return corrected


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Benjamini and Hochberg's correction: below q means that at most a share q of such finds is false."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p[order] * p.size / (p.size - np.arange(p.size)))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, stepped)
    return corrected
