"""A cell stops once it is surely decided, and only then; looking early and often costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hero_ray.core.config import build
from hero_ray.core.plan import Unit
from hero_ray.core.types import Cell
from hero_ray.pipeline.until import Table, decide, in_order
from hero_ray.results.early import by_picture, place
from hero_ray.stats import interval_so_far, one_sided_so_far


def cell(method: str, ratio: float) -> Cell:
    return Cell(f"{method}{ratio}", "m", method, "exact", {}, ratio, "synth", "head")


FULL, GOOD, BAD, CLOSE = cell("full", 1.0), cell("hero", 0.2), cell("random", 0.2), cell("hired", 0.4)


def table(shares: list[tuple[Cell, float]], pictures: int = 600, questions: int = 1) -> Table:
    """Cells that answer a share of the questions right, the hard pictures being hard for all."""
    made = Table.empty([one for one, _ in shares], "full", {f"p{i}": questions for i in range(pictures)})
    draws = np.random.default_rng(1).random(pictures)
    for number, share in enumerate(share for _, share in shares):
        for picture, draw in zip(sorted(made.pictures, key=place), draws, strict=True):
            made.put(number, picture, questions * float(draw < share), questions, 0)
    return made


def reasons(made: Table, margin: float = 0.1) -> dict[str, str]:
    return {made.cells[number].id: stopped.reason for number, stopped in decide(made, margin, {}).items()}


def test_equal_worse_and_dominated_cells_stop_and_the_baseline_with_the_last() -> None:
    found = reasons(table([(FULL, 0.9), (GOOD, 0.9), (BAD, 0.3), (CLOSE, 0.62)]))
    assert found[GOOD.id] == "within 10 points of full"
    assert found[BAD.id] in ("over 10 points below full", "dominated by hero at 20%")
    assert found[CLOSE.id] in ("over 10 points below full", "dominated by hero at 20%")
    assert found[FULL.id] == "every cell compared with it is decided"
    assert reasons(table([(FULL, 0.9), (CLOSE, 0.82)], pictures=40)) == {}


def test_a_larger_budget_never_dominates() -> None:
    rich = cell("hero", 0.4)
    found = reasons(table([(FULL, 0.9), (rich, 0.88), (BAD, 0.78)], pictures=600), margin=0.12)
    assert "dominated" not in found.get(BAD.id, "")


def test_decisions_do_not_hang_on_when_one_looks() -> None:
    whole = table([(FULL, 0.9), (GOOD, 0.87), (BAD, 0.5), (CLOSE, 0.6)])
    at_once = decide(whole, 0.1, {})
    stops: dict[int, int] = {}
    found = {}
    for known in range(8, 601, 8):
        part = Table(whole.cells, whole.base, whole.pictures, whole.sizes, whole.worst.copy(), whole.best.copy())
        for number in range(len(whole.cells)):
            # A stopped cell was asked a little further, by replicas that had not heard of it.
            last = min(known, stops.get(number, known) + 3)
            part.worst[number, last:] = part.best[number, last:] = np.nan
        for number, stopped in decide(part, 0.1, stops).items():
            assert number not in stops
            stops[number], found[number] = stopped.pictures, stopped
    assert found == at_once


def test_only_pictures_up_to_the_first_gap_count() -> None:
    made = table([(FULL, 0.9), (GOOD, 0.9)])
    made.worst[1, 5] = made.best[1, 5] = np.nan
    assert decide(made, 0.1, {}) == {}


def test_failures_count_against_either_claim() -> None:
    lucky = table([(FULL, 0.9), (GOOD, 0.9)])
    gone = lucky.worst[1] == 0
    lucky.best[1, gone] += 1  # what it would get wrong, it failed
    assert reasons(lucky) == reasons(table([(FULL, 0.9), (GOOD, 0.9)]))
    failing = table([(FULL, 0.9), (GOOD, 0.9)])
    failing.worst[1, ::3], failing.best[1, ::3] = 0, 1
    assert reasons(failing) == {}


def test_a_picture_counts_once_all_its_questions_are_answered() -> None:
    made = Table.empty([FULL, GOOD], "full", {"p": 3})
    made.put(0, "p", 1.0, 2, 0)
    assert np.isnan(made.worst).all()
    made.put(0, "p", 2.0, 2, 1)
    assert (made.worst[0, 0], made.best[0, 0]) == (2.0, 3.0)


def test_a_baseline_with_budgets_is_compared_at_equal_budget() -> None:
    low, high = cell("random", 0.2), cell("random", 0.4)
    made = Table.empty([low, high, GOOD, CLOSE], "random", {"p": 1})
    assert made.base == [0, 1, 0, 1]
    assert Table.empty([GOOD, CLOSE], "full", {"p": 1}).base == [0, 1]


def test_the_order_ignores_how_many_questions_a_picture_has() -> None:
    units = [Unit(f"u{i}", f"p{i // 2}", ()) for i in range(50)]
    assert in_order(units) == in_order(units[::-1])
    assert in_order(units) != units
    pictures = [unit.image_key for unit in in_order(units)]
    assert all(pictures[i] == pictures[i + 1] for i in range(0, 50, 2)), "a picture's units stay together"


@pytest.mark.slow
def test_intervals_hold_at_every_moment_at_once() -> None:
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(60):
        values = (rng.random(200) < 0.8).astype(float)
        bounds = [interval_so_far(values[:t], np.ones(t), 1, level=0.9) for t in range(5, 201, 15)]
        misses += any(not low <= 0.8 <= high for low, high in bounds)
    assert misses / 60 <= 0.1


def test_a_test_that_bears_looking_is_wider_and_agrees() -> None:
    sums = np.tile([0.0] * 19 + [-1.0], 60)
    found = one_sided_so_far(sums, np.ones(1200), 1, margin=0.1)
    assert found.value == pytest.approx(0.05)
    assert found.low is not None
    assert found.high is not None
    assert 0.0 < found.low < 0.05 < found.high < 0.1
    assert found.p_claim < 0.001 < found.p_against
    refuted = one_sided_so_far(sums, np.ones(1200), 1, margin=0.01)
    assert refuted.p_against < 0.05


def test_sums_come_in_the_order_of_the_pictures() -> None:
    pictures = ["a", "b", "a", "c"]
    sums, sizes = by_picture(np.array([1.0, 2.0, 3.0, 4.0]), pictures)
    expected = {"a": (4.0, 2.0), "b": (2.0, 1.0), "c": (4.0, 1.0)}
    assert list(zip(sums, sizes, strict=True)) == [expected[one] for one in sorted(expected, key=place)]


def test_race_of_earlier_sweep_files_means_until_decided() -> None:
    tasks = {"tasks": ["synth"]}
    old, new = build(tasks | {"race_margin": 2}), build(tasks | {"until": "decided", "margin": 2})
    assert (old.until, old.margin) == (new.until, new.margin) == ("decided", 2.0)
    assert build(tasks | {"race_margin": None}).until == "all"
