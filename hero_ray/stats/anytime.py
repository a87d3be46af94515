"""Confidence sequences: intervals that hold at every moment at once, so that looking early costs nothing.

The predictable plug-in empirical-Bernstein sequence of Waudby-Smith and Ramdas (2024, "Estimating means of bounded
random variables by betting", section 3.2) for values in [0, 1], rescaled to [low, high].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

MAX_BET = 0.5


def confidence_sequence(
    values: ArrayLike, alpha: float = 0.05, low: float = -1.0, high: float = 1.0
) -> tuple[float, float]:
    """Bounds of the mean after the last value; valid however often it was looked at before.

    Args:
        values: observations in the order in which they came, each in [low, high].
        alpha: chance that the bounds ever miss the mean.

    Returns:
        The running intersection of all intervals so far; (low, high) for no values.

    Raises:
        ValueError: a value out of range.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        return low, high
    if not np.all((x >= low - 1e-9) & (x <= high + 1e-9)):
        raise ValueError(f"values must lie in [{low}, {high}], got [{x.min()}, {x.max()}]")
    unit = np.clip((x - low) / (high - low), 0.0, 1.0)
    t = np.arange(1, unit.size + 1)
    means = (0.5 + np.cumsum(unit)) / (t + 1)
    variances = (0.25 + np.cumsum((unit - means) ** 2)) / (t + 1)
    before_mean = np.concatenate([[0.5], means[:-1]])
    before_variance = np.concatenate([[0.25], variances[:-1]])
    log_term = math.log(2 / alpha)
    bets = np.minimum(np.sqrt(2 * log_term / (before_variance * t * np.log1p(t))), MAX_BET)
    penalties = (unit - before_mean) ** 2 * (-np.log1p(-bets) - bets)
    weight = np.cumsum(bets)
    centre = np.cumsum(bets * unit) / weight
    half = (log_term + np.cumsum(penalties)) / weight
    bottom = float(np.clip(centre - half, 0.0, 1.0).max())
    top = float(np.clip(centre + half, 0.0, 1.0).min())
    return low + bottom * (high - low), low + top * (high - low)
