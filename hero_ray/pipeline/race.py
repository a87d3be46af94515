"""Racing: stop a cell once it is surely decided, with intervals that allow looking at any time.

A cell stops when it is surely within the margin of the baseline, or when another cell of its benchmark with the same or
a smaller budget is surely better. Decisions are about the mean over pictures, taken in the order the pictures came in
(a seeded shuffle, so that they are exchangeable). The error level is shared over all comparisons of a benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hero_ray.core.plan import Unit, digest
from hero_ray.core.types import Cell
from hero_ray.results.names import budget_of
from hero_ray.stats.anytime import confidence_sequence
from hero_ray.store import Store

LEVEL = 0.05


def shuffled(units: Sequence[Unit]) -> list[Unit]:
    """Units in an order that has nothing to do with what is in them, the same for every execution."""
    return sorted(units, key=lambda unit: digest(["race", unit.id]))


@dataclass
class Race:
    """Decides which cells of one model need no more answers.

    Attributes:
        margin: in score units (0.01 is one point).
        baseline: method that others are held against.
        every: pictures between two looks.
    """

    store: Store
    run_id: str
    cells: Sequence[Cell]
    margin: float
    baseline: str
    every: int = 8
    stopped: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def arrived(self, picture: str) -> None:
        """Note a finished picture; look at the race now and then."""
        if picture not in self.order:
            self.order.append(picture)
        if len(self.order) % self.every == 0:
            self.look()

    def look(self) -> None:
        """Stop every cell that is decided by now."""
        for name in dict.fromkeys(cell.benchmark for cell in self.cells):
            cells = [cell for cell in self.cells if cell.benchmark == name]
            means = self.store.picture_means(self.run_id, [cell.id for cell in cells])
            for cell_id, reason in decide(cells, means, self.order, self.margin, self.baseline).items():
                if cell_id not in self.stopped:
                    self.store.stop_cell(self.run_id, cell_id, reason)
                    self.stopped[cell_id] = reason


def decide(
    cells: Sequence[Cell],
    means: dict[str, dict[str, float]],
    order: Sequence[str],
    margin: float,
    baseline: str,
) -> dict[str, str]:
    """Cell id -> reason, for the cells of one benchmark that are decided.

    Args:
        means: cell id -> picture -> mean score in [0, 1].
        order: pictures in order of arrival.
    """
    alpha = LEVEL / max(1, len(cells)) ** 2
    base = next((cell for cell in cells if cell.method == baseline), None)
    found = {}
    for cell in cells:
        if base is None or cell.id == base.id:
            continue
        low, _ = _difference(cell, base, means, order, alpha)
        if low > -margin:
            found[cell.id] = f"within {100 * margin:g} points of {baseline}"
            continue
        for other in cells:
            if other.id == cell.id or other.retention_ratio > cell.retention_ratio:
                continue
            if _difference(other, cell, means, order, alpha)[0] > 0:
                found[cell.id] = f"dominated by {other.method} at {budget_of(other)}"
                break
    return found


def _difference(
    a: Cell, b: Cell, means: dict[str, dict[str, float]], order: Sequence[str], alpha: float
) -> tuple[float, float]:
    left, right = means.get(a.id, {}), means.get(b.id, {})
    shared = [picture for picture in order if picture in left and picture in right]
    return confidence_sequence(np.array([left[p] - right[p] for p in shared]), alpha)
