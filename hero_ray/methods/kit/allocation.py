"""Integer apportionment of a token budget, shared by every method that splits one over views or stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

EPSILON = 1e-9
"""Added before every floor: 2340 * (1 - .9) is 233.99999999999997 in binary."""

Rounding = Literal["exact", "floor"]


def floor(value: float) -> int:
    """Largest whole number not above `value`, forgiving binary rounding just below a whole number."""
    return math.floor(value + EPSILON)


def allocate(budget: int, weights: Sequence[float], caps: Sequence[int], rounding: Rounding = "exact") -> list[int]:
    """Split `budget` tokens in proportion to `weights`, never above `caps`.

    `floor` is what the papers print: every share is floored and capped, the remainder is lost. `exact` water-fills:
    whoever reaches its cap leaves and its surplus is shared again; then the largest fractional parts get the rest,
    ties to the smaller index, so that the sum is min(budget, sum of caps). Weights that sum to zero mean equal shares.
    """
    weights = [float(weight) for weight in weights]
    if rounding == "floor":
        return [min(floor(share), cap) for share, cap in zip(_shares(budget, weights), caps, strict=True)]
    counts = [0] * len(weights)
    active = list(range(len(weights)))
    left = min(budget, sum(caps))
    while active:
        shares = _shares(left, [weights[i] for i in active])
        full = [i for i, share in zip(active, shares, strict=True) if share >= caps[i]]
        if not full:
            return _largest_remainders(counts, active, shares, left)
        for i in full:
            counts[i] = caps[i]
            left -= caps[i]
        active = [i for i in active if i not in full]
    return counts


def equal(budget: int, caps: Sequence[int]) -> list[int]:
    """`budget` in equal parts under `caps`, hit exactly; the first views take the odd tokens."""
    return allocate(budget, [1.0] * len(caps), caps)


def _shares(budget: float, weights: list[float]) -> list[float]:
    total = sum(weights)
    if total <= 0.0:
        return [budget / len(weights)] * len(weights)
    return [budget * weight / total for weight in weights]


def _largest_remainders(counts: list[int], active: list[int], shares: list[float], left: int) -> list[int]:
    for i, share in zip(active, shares, strict=True):
        counts[i] = floor(share)
    rest = left - sum(counts[i] for i in active)
    by_fraction = sorted(range(len(active)), key=lambda k: (-round(shares[k] - floor(shares[k]), 9), active[k]))
    for k in by_fraction[:rest]:
        counts[active[k]] += 1
    return counts
