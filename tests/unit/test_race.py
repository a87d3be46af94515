"""Racing stops what is surely decided, and only that."""

from __future__ import annotations

import numpy as np
import pytest

from hero_ray.core.plan import Unit
from hero_ray.core.types import Cell
from hero_ray.pipeline.race import decide, shuffled
from hero_ray.stats.anytime import confidence_sequence


def cell(method: str, ratio: float) -> Cell:
    return Cell(f"{method}{ratio}", "m", method, "exact", {}, ratio, "synth", "head")


def test_bounds_hold_at_every_moment_at_once() -> None:
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(300):
        values = rng.choice([-1.0, 0.0, 1.0], size=200, p=[0.1, 0.6, 0.3])
        moments = range(5, 201, 15)
        bounds = [confidence_sequence(values[:t], alpha=0.1) for t in moments]
        misses += any(not low <= 0.2 <= high for low, high in bounds)
    assert misses / 300 <= 0.1


def test_bounds_shrink_to_the_mean() -> None:
    values = np.tile([0.0, 0.0, 0.0, 1.0], 2500)
    low, high = confidence_sequence(values)
    assert low < 0.25 < high
    assert high - low < 0.06
    assert confidence_sequence([]) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="must lie"):
        confidence_sequence([1.5])


def race(scores: list[tuple[Cell, float]], pictures: int = 400, margin: float = 0.1) -> dict[str, str]:
    rng = np.random.default_rng(1)
    draws = rng.random(pictures)
    order = [f"p{i}" for i in range(pictures)]
    means = {c.id: dict(zip(order, (draws < share).astype(float), strict=True)) for c, share in scores}
    return decide([c for c, _ in scores], means, order, margin, "full")


def test_dominated_and_equal_cells_stop_and_unclear_ones_go_on() -> None:
    full, good, bad = cell("full", 1.0), cell("hero", 0.2), cell("random", 0.2)
    close = cell("hired", 0.4)
    found = race([(full, 0.9), (good, 0.9), (bad, 0.3), (close, 0.82)])
    assert found[good.id] == "within 10 points of full"
    assert found[bad.id] == "dominated by hero at 20%"
    assert full.id not in found
    assert close.id not in race([(full, 0.9), (close, 0.82)], pictures=40)


def test_a_larger_budget_never_dominates() -> None:
    full, rich, poor = cell("full", 1.0), cell("hero", 0.4), cell("random", 0.2)
    assert race([(full, 0.9), (rich, 0.7), (poor, 0.3)]) == {}


def test_the_order_ignores_how_many_questions_a_picture_has() -> None:
    units = [Unit(f"u{i}", f"p{i}", ()) for i in range(50)]
    assert shuffled(units) == shuffled(units[::-1])
    assert shuffled(units) != units
