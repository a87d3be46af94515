"""Which cells are worth their cost? Points with intervals to a Pareto frontier; pure numpy.

A cell is dominated when another costs no more and scores no less, one of them strictly. Scores are estimates, so three
states are told apart: on the `frontier`, `dominated` (a cell that costs no more is shown to be better), and `unclear`
(nominally dominated, but within noise of what dominates it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Point:
    """One cell on one cost axis. `cost` is as shown; `low`/`high` bound the value where an interval is known."""

    id: str
    label: str
    cost: float
    value: float
    low: float | None = None
    high: float | None = None

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

    Args:
        p_better: one-sided p that cell A scores above cell B, from a paired test; intervals are used where it gives
            None. Pairing tells apart what intervals cannot, since cells answer the same questions.
        higher_is_cheaper: the cost is a rate.
        alpha: of one comparison; each point is compared with the few rivals whose intervals lie highest.
    """
    if not candidates:
        return []
    sign = -1.0 if higher_is_cheaper else 1.0
    ranked = sorted(candidates, key=lambda point: (sign * point.cost, -point.value, point.id))
    costs = np.array([sign * point.cost for point in ranked])
    values = np.array([point.value for point in ranked])
    nominal = pareto(costs, values)
    noise = np.random.default_rng(seed).standard_normal((draws, len(ranked))) * np.array([p.se for p in ranked])
    chance = pareto(costs, values + noise).mean(axis=0)

    def p_value(a: Point, b: Point) -> float:
        apart = _independent(a, b)
        # Pairing only sharpens what intervals show already; clear cases need no scores read.
        paired = p_better(a.id, b.id) if p_better is not None and apart > alpha / 10 else None
        return apart if paired is None else paired

    group_of: dict[str, int] = {}
    placed = []
    for i, point in enumerate(ranked):
        state, rival = "frontier", None
        if nominal[i]:
            group_of[point.id] = len(group_of)
        else:
            rivals = [
                ranked[j] for j in np.flatnonzero(nominal & (costs <= costs[i])) if ranked[j].value >= point.value
            ]
            best = min(rivals, key=lambda other: (p_value(other, point), -other.value, other.id))
            rival = best.id
            state = "dominated" if p_value(best, point) < alpha else "unclear"
        group = group_of[point.id] if nominal[i] else -1
        placed.append(Placed(point, state, rival, float(chance[i]), group))
    return [_grouped(entry, group_of) for entry in placed]


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
