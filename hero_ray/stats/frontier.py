"""Which cells are worth their cost? Points with intervals to a Pareto frontier; pure numpy.

A cell is dominated when another costs no more and scores no less, one of them strictly. Scores are estimates, so three
states are told apart: on the `frontier`, `dominated` (a cell that costs no more is shown to be better, with at most 5 %
error for the point whichever of its rivals that is), and `unclear` (nominally dominated, but within noise of what
dominates it). Costs within 1 % of each other, or within the noise they were measured with, are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054
COST_TIE = 0.01
"""Relative difference of costs that decides nothing."""


@dataclass(frozen=True)
class Point:
    """One cell on one cost axis. `cost` is as shown; `low`/`high` bound the value where an interval is known.

    `cost_noise` is the half width of a measured cost's interval, 0 for counted costs.
    """

    id: str
    label: str
    cost: float
    value: float
    low: float | None = None
    high: float | None = None
    cost_noise: float = 0.0

    @property
    def se(self) -> float:
        """Standard error implied by the 95 % interval; 0 where there is none."""
        return 0.0 if self.low is None or self.high is None else (self.high - self.low) / (2 * Z95)


@dataclass(frozen=True)
class Placed:
    """A point and its place.

    Attributes:
        state: `frontier`, `dominated` or `unclear`.
        beaten_by: the cell shown to be better at no more cost, or the nominal dominator of an unclear point.
        p_frontier: chance of lying on the frontier, from draws of every score within its error.
        group: number of the set of points no test tells apart; frontier points open the groups, cheapest first.
    """

    point: Point
    state: str
    beaten_by: str | None
    p_frontier: float
    group: int


def pareto(costs: ArrayLike, values: ArrayLike) -> NDArray[np.bool_]:
    """Non-dominated points for costs to be small and values to be large: bool [..., points].

    Leading dimensions of `values` are separate draws over the same costs. Exact ties stay on the frontier together.
    """
    cost, value = np.asarray(costs, dtype=float), np.asarray(values, dtype=float)
    order = np.argsort(cost, kind="stable")
    ranked = value[..., order]
    starts = np.flatnonzero(np.r_[True, np.diff(cost[order]) > 0])
    lengths = np.diff(np.r_[starts, cost.size])
    best_at_cost = np.maximum.reduceat(ranked, starts, axis=-1)
    best_cheaper = np.maximum.accumulate(best_at_cost, axis=-1)
    before = np.concatenate([np.full((*value.shape[:-1], 1), -np.inf), best_cheaper[..., :-1]], axis=-1)
    keep = (ranked >= np.repeat(best_at_cost, lengths, axis=-1)) & (ranked > np.repeat(before, lengths, axis=-1))
    result = np.empty(value.shape, dtype=bool)
    result[..., order] = keep
    return result


def tied_costs(costs: ArrayLike, noise: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Costs with those that are equal for all purposes made equal: within 1 % or within their noise of the cheapest
    of their group. Ties do not chain: a group is as wide as its cheapest member allows."""
    cost = np.asarray(costs, dtype=float)
    width = np.broadcast_to(np.asarray(noise, dtype=float), cost.shape)
    tied = cost.copy()
    first = None
    for i in np.argsort(cost, kind="stable"):
        if first is None or cost[i] - cost[first] > max(
            COST_TIE * abs(cost[first]), math.hypot(width[i], width[first])
        ):
            first = i
        tied[i] = cost[first]
    return tied


def _independent(better: Point, worse: Point) -> float:
    """p that `better` is truly above `worse`, as if their samples were unrelated: cautious where they are shared."""
    spread = math.hypot(better.se, worse.se)
    difference = better.value - worse.value
    if spread == 0:
        return 1.0 if difference <= 0 else 0.0
    return 0.5 * math.erfc(difference / spread / math.sqrt(2))


def frontier(
    candidates: Sequence[Point],
    p_better: Callable[[str, str], float | None] | None = None,
    higher_is_cheaper: bool = False,
    alpha: float = 0.05,
    draws: int = 2000,
    seed: int = 0,
) -> list[Placed]:
    """Place every point, cheapest first.

    A point is dominated if one of the cells that cost no more is shown to score higher, corrected over all of them:
    the best of many equal cells looks better than any one of them (Holm's first step; further steps change nothing).

    Args:
        p_better: one-sided p that cell A scores above cell B, from a paired test; intervals are used where it gives
            None. Pairing tells apart what intervals cannot, since cells answer the same questions.
        higher_is_cheaper: the cost is a rate.
        alpha: chance that a point is called dominated although none of its rivals is better.
    """
    if not candidates:
        return []
    sign = -1.0 if higher_is_cheaper else 1.0
    costs = tied_costs([sign * point.cost for point in candidates], [point.cost_noise for point in candidates])
    order = sorted(
        range(len(candidates)), key=lambda i: (costs[i], -candidates[i].value, candidates[i].cost, candidates[i].id)
    )
    ranked, costs = [candidates[i] for i in order], costs[order]
    values = np.array([point.value for point in ranked])
    nominal = pareto(costs, values)
    noise = np.random.default_rng(seed).standard_normal((draws, len(ranked))) * np.array([p.se for p in ranked])
    chance = pareto(costs, values + noise).mean(axis=0)
    group_of = {ranked[i].id: number for number, i in enumerate(np.flatnonzero(nominal))}
    placed = []
    for i, point in enumerate(ranked):
        state, rival = "frontier", None
        if not nominal[i]:
            family = int((costs <= costs[i]).sum()) - 1
            rivals = [
                ranked[j] for j in np.flatnonzero(nominal & (costs <= costs[i])) if ranked[j].value >= point.value
            ]
            p_values = {other.id: family * _p_better(other, point, p_better, alpha / family) for other in rivals}
            best = min(rivals, key=lambda other: (p_values[other.id], -other.value, other.id))
            rival = best.id
            state = "dominated" if p_values[best.id] < alpha else "unclear"
        group = group_of[point.id] if nominal[i] else -1
        placed.append(Placed(point, state, rival, float(chance[i]), group))
    return [_grouped(entry, group_of) for entry in placed]


def _p_better(a: Point, b: Point, paired: Callable[[str, str], float | None] | None, alpha: float) -> float:
    """p that A is truly above B. Pairing only sharpens what intervals show; clear cases need no scores read."""
    apart = _independent(a, b)
    found = paired(a.id, b.id) if paired is not None and apart > alpha / 10 else None
    return apart if found is None else found


def _grouped(entry: Placed, group_of: Mapping[str, int]) -> Placed:
    """An unclear point joins the group of the frontier point it cannot be told from; a dominated one has none (-1)."""
    if entry.state != "unclear":
        return entry
    assert entry.beaten_by is not None
    return Placed(entry.point, entry.state, entry.beaten_by, entry.p_frontier, group_of[entry.beaten_by])


def staircase(placed: Sequence[Placed]) -> tuple[list[float], list[float]]:
    """Costs and values of the frontier points, cheapest first: the line a chart draws."""
    line = [entry.point for entry in placed if entry.state == "frontier"]
    return [point.cost for point in line], [point.value for point in line]
