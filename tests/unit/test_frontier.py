"""Frontiers of points with noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_ray.stats.frontier import Point, frontier, pareto, staircase


def place(*cells: tuple[str, float, float, float], **options: Any) -> dict[str, str]:
    made = [Point(name, name, cost, value, value - half, value + half) for name, cost, value, half in cells]
    return {entry.point.id: entry.state for entry in frontier(made, **options)}


def test_a_clear_loser_is_dominated_and_a_near_miss_is_unclear() -> None:
    found = place(
        ("full", 100, 0.9, 0.02), ("hero", 20, 0.85, 0.02), ("hired", 20, 0.84, 0.02), ("random", 20, 0.5, 0.02)
    )
    assert found == {"full": "frontier", "hero": "frontier", "hired": "unclear", "random": "dominated"}


def test_pairing_tells_apart_what_intervals_cannot() -> None:
    cells = (("hero", 20.0, 0.85, 0.02), ("hired", 20.0, 0.84, 0.02))
    assert place(*cells)["hired"] == "unclear"
    assert place(*cells, p_better=lambda a, b: 0.001)["hired"] == "dominated"


def test_more_cost_for_less_score_is_dominated_by_the_cheaper() -> None:
    placed = frontier([Point("a", "a", 10, 0.9), Point("b", "b", 20, 0.8), Point("c", "c", 30, 0.95)])
    assert [(p.point.id, p.state, p.beaten_by, p.group) for p in placed] == [
        ("a", "frontier", None, 0),
        ("b", "dominated", "a", -1),
        ("c", "frontier", None, 1),
    ]
    assert staircase(placed) == ([10, 30], [0.9, 0.95])


def test_an_unclear_point_joins_the_group_of_its_rival() -> None:
    placed = frontier([Point("a", "a", 10, 0.9, 0.8, 1.0), Point("b", "b", 10, 0.89, 0.79, 0.99)])
    assert [(p.point.id, p.group, p.beaten_by) for p in placed] == [("a", 0, None), ("b", 0, "a")]
    assert 0.3 < placed[1].p_frontier < 0.7


def test_speeds_count_the_other_way() -> None:
    fast, slow = Point("fast", "fast", 100, 0.9), Point("slow", "slow", 10, 0.8)
    assert {p.point.id: p.state for p in frontier([fast, slow], higher_is_cheaper=True)} == {
        "fast": "frontier",
        "slow": "dominated",
    }


def test_equal_points_share_the_frontier() -> None:
    assert pareto([1, 1, 2], [0.5, 0.5, 0.5]).tolist() == [True, True, False]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_pareto_agrees_with_its_definition(pairs: list[tuple[int, int]]) -> None:
    expected = [not any((c2 <= c and v2 >= v) and (c2 < c or v2 > v) for c2, v2 in pairs) for c, v in pairs]
    assert pareto([c for c, _ in pairs], [v for _, v in pairs]).tolist() == expected


def test_draws_are_separate_frontiers() -> None:
    values = np.array([[0.9, 0.8], [0.7, 0.8]])
    assert pareto([1, 2], values).tolist() == [[True, False], [True, True]]


def test_nothing_gives_nothing() -> None:
    assert frontier([]) == []
