"""Greedy coverage: candidates picked one after another by what they add to what is covered already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hero_ray.core.lazy import Tensor, torch

_AT_ONCE = 8
"""Stale gains brought up to date together at first: a call of numpy costs as much as a few rows."""


def covering(shares: Tensor, weights: Tensor, count: int) -> Tensor:
    """Greedy picks by gain in coverage times weight, in order, ties to the lower index: int64 [count]. On the CPU.

    Args:
        shares: [n, m], how much each of n candidates covers each of m things; what is below 0 covers nothing.
        weights: [n] of at least 0.
    """
    rows = np.ascontiguousarray(shares.numpy())
    worth = weights.numpy().astype(rows.dtype)
    covered = np.zeros(rows.shape[1], rows.dtype)
    gains = _gains(rows.copy(), covered) * worth
    picks: list[int] = []
    # Coverage only grows, so a gain only shrinks: what is out of date is an upper bound, and once the largest of all is
    # up to date it is the answer. Few have to be looked at again for a pick, where the definition asks for all.
    fresh = np.zeros(len(rows), dtype=np.int64)
    for step in range(count):
        most = _AT_ONCE
        while fresh[best := int(gains.argmax())] < step:
            # The most promising; which of equals does not matter, nor that some are fresh. Those picked are the last.
            most = min(most, len(rows) - step)
            best_ones = gains.argpartition(len(rows) - most)[len(rows) - most :]
            gains[best_ones] = _gains(rows[best_ones], covered) * worth[best_ones]
            fresh[best_ones] = step
            most *= 2
        picks.append(best)
        np.maximum(covered, rows[best], out=covered)
        gains[best] = -np.inf
        fresh[best] = count
    return torch.tensor(picks, dtype=torch.long)


def _gains(rows: NDArray[np.floating], covered: NDArray[np.floating]) -> NDArray[np.floating]:
    """What every candidate [k, m] would add to the coverage of m things: [k]. `rows` is written over."""
    rows -= covered
    return np.asarray(np.maximum(rows, 0.0, out=rows).sum(1))
