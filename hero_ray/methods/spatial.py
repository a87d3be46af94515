"""Evenly spaced tokens in every view (Spatial-R, PTP's straw man, arXiv 2509.15704).

`exact`: of the M real tokens of a view in raster order, take floor((2k + 1) M / 2n) for k < n: exactly n, centred.
`released`: HiRED's `add_spatial_tokens` (hasanar1f/HiRED @502d6dd): positions 0, g, 2g, .. < N - 1 with g = N // n,
which may exceed n and never takes the last token.

Differs: the papers name the baseline without defining it. A raster stride that divides the row length aliases to whole
columns; `pattern=grid2d` applies the centred rule to rows and columns instead and keeps rows * columns <= n tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hero_ray.core.encoded import Budget, Encoded, Selection, keep_all
from hero_ray.core.lazy import Tensor, torch
from hero_ray.methods.base import Method
from hero_ray.methods.kit.allocation import equal
from hero_ray.methods.kit.scores import caps


@dataclass(frozen=True)
class Spatial(Method):
    """Tokens at a fixed stride."""

    pattern: Literal["raster", "grid2d"] = "raster"

    name = "spatial"
    paper = "baseline"
    variants = ("exact", "released")
    straw_man = True

    def select(self, encoded: Encoded, budget: Budget) -> Selection:
        layout = encoded.layout
        if budget.is_full:
            return keep_all(layout)
        counts = equal(budget.total, caps(layout.valid))
        keep = torch.zeros_like(layout.valid)
        for view, count in enumerate(counts):
            keep[view, self._positions(layout.valid[view], layout.side, count)] = True
        note = ""
        if self.variant == "released":
            note = "HiRED's stride rule may keep more or fewer than asked, and padding is cut afterwards"
        elif self.pattern == "grid2d":
            note = "whole rows and columns only"
        return Selection(keep & layout.valid, view_budgets=tuple(counts), note=note)

    def _positions(self, valid: Tensor, side: tuple[int, int], count: int) -> Tensor:
        if self.variant == "released":
            return hired_stride(len(valid), count).to(valid.device)
        if self.pattern == "grid2d":
            grid = valid.view(side)
            rows, cols = grid.any(1).nonzero()[:, 0], grid.any(0).nonzero()[:, 0]
            high, wide = _grid(len(rows), len(cols), count)
            ids = rows[centred(len(rows), high).to(rows.device)][:, None] * side[1]
            return (ids + cols[centred(len(cols), wide).to(cols.device)]).reshape(-1)
        real = valid.nonzero()[:, 0]
        return real[centred(len(real), count).to(real.device)]


def centred(tokens: int, count: int) -> Tensor:
    """`count` of `tokens` positions at even distance, centred: int64 [count]."""
    return ((2 * torch.arange(count) + 1) * tokens) // (2 * max(count, 1))


def hired_stride(tokens: int, count: int) -> Tensor:
    """Positions of HiRED's `add_spatial_tokens`; their number need not be `count`."""
    return torch.arange(0, tokens - 1, max(1, tokens // count)) if count else torch.arange(0)


def _grid(rows: int, cols: int, count: int) -> tuple[int, int]:
    """Most nearly proportional rows x columns with at most `count` cells."""
    if not count or not rows:
        return 0, 0
    high = min(rows, max(1, math.floor(math.sqrt(count * rows / cols))))
    wide = min(cols, count // high)
    return min(rows, count // wide), wide
