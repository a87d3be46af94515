"""Where one thing stops being better than another: gains measured in pairs at a few places, and where they cross 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import ArrayLike

from hero_ray.stats.intervals import t_quantile

PAYS, COSTS, NOISE, UNKNOWN = "pays", "costs", "within noise", "unknown"
STEPS = 400
"""Of the grid between the first and the last place on which a crossing is looked for."""


@dataclass(frozen=True)
class Gain:
    """How many times as much one gets: 1.2 is a fifth more.

    Attributes:
        ratio: geometric mean over the pairs.
        low, high: its bounds (Student's t on the logarithms); None with a single pair.
        pairs: how many.
    """

    ratio: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def word(self) -> str:
        """`pays`, `costs`, `within noise` where the interval holds 1, or `unknown` where there is none."""
        if self.low is None or self.high is None:
            return UNKNOWN
        return PAYS if self.low > 1 else COSTS if self.high < 1 else NOISE


def gain(base: ArrayLike, other: ArrayLike, level: float = 0.95) -> Gain:
    """`other` over `base`, pair by pair.

    Raises:
        ValueError: no pairs, or a value that is not above 0.
    """
    below, above = np.asarray(base, float), np.asarray(other, float)
    if below.shape != above.shape or below.size == 0 or not (below > 0).all() or not (above > 0).all():
        raise ValueError("a gain needs pairs of values above 0")
    logs = np.log(above / below)
    centre, n = float(logs.mean()), int(logs.size)
    if n < 2:
        return Gain(math.exp(centre), None, None, n)
    half = t_quantile((1 + level) / 2, n - 1) * float(logs.std(ddof=1)) / math.sqrt(n)
    return Gain(math.exp(centre), math.exp(centre - half), math.exp(centre + half), n)


def described(places: Sequence[int], gains: Sequence[Gain]) -> str:
    """`pays at 1 to 8, within noise at 32, costs at 64`."""
    parts = []
    for word, group in groupby(zip(places, gains, strict=True), key=lambda pair: pair[1].word):
        found = [place for place, _ in group]
        parts.append(f"{word} at {found[0]}" + (f" to {found[-1]}" if len(found) > 1 else ""))
    return ", ".join(parts)


def break_even(places: Sequence[float], gains: Sequence[Gain]) -> tuple[float, float, float] | None:
    """(place, low, high) where the gain passes 1, between a place where it is shown to pay and one where it costs.

    Logarithms of gains and of their bounds are interpolated over the logarithm of the place; low and high are where
    that band begins and stops to hold 1. None where it never passes from the one to the other, or does so twice.
    """
    words = [one.word for one in gains]
    shown = [i for i, word in enumerate(words) if word in (PAYS, COSTS)]
    flips = [(i, j) for i, j in pairwise(shown) if words[i] != words[j]]
    if len(flips) != 1 or UNKNOWN in words:
        return None
    first, last = flips[0]
    x = np.log(np.asarray(places[first : last + 1], float))
    grid = np.linspace(x[0], x[-1], STEPS)
    part = gains[first : last + 1]
    centre, low, high = (
        np.interp(grid, x, np.log([getattr(one, name) for one in part])) for name in ("ratio", "low", "high")
    )
    passed = int(np.flatnonzero(np.sign(centre) != np.sign(centre[0]))[0])
    holds = np.flatnonzero((low <= 0) & (high >= 0))
    edges = (passed, passed) if holds.size == 0 else (min(holds[0], passed), max(holds[-1], passed))
    return float(np.exp(grid[passed])), float(np.exp(grid[edges[0]])), float(np.exp(grid[edges[1]]))


def turning(places: Sequence[float], gains: Sequence[Gain]) -> str:
    """The break-even as text: `16 [12, 21]`, or that none was shown."""
    found = break_even(places, gains)
    return "none shown" if found is None else "{:.3g} [{:.3g}, {:.3g}]".format(*found)
