"""Verdicts at the margin, families, frontiers, intervals and betting, with fewer runs than `perf.decisions`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hero_ray import stats
from perf import decisions
from perf.designs import Design, differences, lopsided, partial, scores, whole_pictures

pytestmark = pytest.mark.slow
RUNS = 3000


def allowed(percent: dict[str, float], bound: float = 5.0) -> bool:
    """A bound is met by the rate minus two Monte Carlo errors."""
    return percent["percent"] - 2 * percent["error"] <= bound


DESIGNS = {
    "losses only": lambda kind, margin: differences(kind, margin),
    "wins 1 %": lambda kind, margin: differences(kind, margin, 0.01),
    "wins 5 %": lambda kind, margin: differences(kind, margin, 0.05),
    "whole pictures": lambda kind, margin: whole_pictures(kind, margin, 0.01),
    "very alike": lambda kind, margin: differences(kind, margin, alike=0.7),
    "partial": lambda kind, margin: partial(kind, margin),
    "lopsided": lambda kind, margin: lopsided(kind, min(margin, 0.04)),
}


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("kind", ["1", "2", "18", "1-50"])
def test_a_loss_at_the_margin_is_rarely_called_within_it(name: str, kind: str) -> None:
    rng = np.random.default_rng([list(DESIGNS).index(name), len(kind)])
    for margin in (0.01, 0.03, 0.05):
        design = DESIGNS[name](kind, margin)
        for pictures in (30, 150, 300):
            p = decisions.p_within(design, -design.truth, RUNS, pictures, rng)
            assert allowed(decisions.rate(p < 0.05)), (margin, pictures, (p < 0.05).mean())


def test_and_a_small_loss_is_called_so() -> None:
    rng = np.random.default_rng(1)
    for kind, pictures, least in (
        ("1", 100, 0.5),
        ("1", 400, 0.98),
        ("2", 200, 0.8),
        ("18", 200, 0.9),
        ("1-50", 1000, 0.9),
    ):
        p = decisions.p_within(differences(kind, 0.006), 0.03, RUNS, pictures, rng)
        assert (p < 0.05).mean() > least, (kind, pictures)


def test_a_table_of_counts_equals_single_draws() -> None:
    design = differences("1", 0.03, 0.02)
    rng = np.random.default_rng(2)
    sums, sizes, squares = design.draw(rng, 400, 120)
    one = [stats.one_sided(row + 0.03).p_claim for row in sums]
    drawn = decisions.p_at_most(decisions.weigh(sums, sizes, squares), -0.03)
    assert drawn == pytest.approx(one)
    counted = decisions.p_within(design, 0.03, 20_000, 120, rng)
    assert (counted < 0.2).mean() == pytest.approx((drawn < 0.2).mean(), abs=0.06)


@pytest.mark.parametrize("cells", [9, 27, 69])
def test_no_cell_of_a_family_is_called_safe_or_unsafe_by_luck(cells: int) -> None:
    rng = np.random.default_rng(cells)
    design = differences("2", 0.03, 0.01)
    found = []
    for _ in range(6):
        sums, sizes, squares = design.draw(rng, 60 * cells, 200)
        evidence = decisions.weigh(sums, sizes, squares).plus(0.03)
        p_safe, p_unsafe = (decisions.p_at_most(side).reshape(60, cells) for side in (evidence, evidence.mirrored))
        found += [min(*map(np.min, stats.both_ways(*pair))) < 0.05 for pair in zip(p_safe, p_unsafe, strict=True)]
    assert allowed(decisions.rate(np.array(found)), 10.0)  # both claims are true of a loss exactly at the margin
    safe = decisions.p_within(design, 0.03, 1000 * cells, 200, rng).reshape(1000, cells).min(axis=1) * cells < 0.05
    assert allowed(decisions.rate(safe))


@pytest.mark.parametrize("cells", [2, 8, 25])
def test_equal_cells_are_rarely_called_dominated(cells: int) -> None:
    rng = np.random.default_rng(cells)
    clusters = np.repeat(np.arange(100), 3)
    found = []
    for _ in range(max(10, 400 // cells)):
        drawn = decisions.answers(rng, np.full(cells, 0.65), 100, 3)
        placed = decisions.placed(drawn, np.arange(cells) + 1.0, clusters)
        found += [entry.state == "dominated" for entry in placed[1:]]
    assert allowed(decisions.rate(np.array(found)))


def test_a_rival_ten_points_better_is_found() -> None:
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(100), 3)
    found = []
    for _ in range(150):
        placed = decisions.placed(decisions.answers(rng, np.array([0.97, 0.515]), 100, 3), np.ones(2), clusters)
        found.append(any(entry.state == "dominated" for entry in placed))
    assert np.mean(found) > 0.75


@pytest.mark.parametrize("kind", ["1", "2", "18", "1-50"])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_intervals_cover_uneven_and_alike_pictures(kind: str, share: float) -> None:
    rng = np.random.default_rng([len(kind), int(100 * share)])
    for alike in (0.1, 0.7):
        for pictures in (50, 150):
            held, ratio, before, _ = decisions.intervals(scores(kind, share, alike), 2000, pictures, rng)
            assert held.mean() + 2 * decisions.rate(held)["error"] / 100 >= 0.93, (alike, pictures)
            assert before.mean() < 0.93 or ratio < 1.25 or share > 0.9, (alike, pictures, ratio)


def test_intervals_near_one_cover_or_say_that_pictures_are_too_few() -> None:
    rng = np.random.default_rng(4)
    for kind in ("1", "18", "1-50"):
        held, _, _, flagged = decisions.intervals(scores(kind, 0.99), 1500, 400, rng)
        assert (held | flagged).mean() > 0.93


@pytest.mark.parametrize("kind", ["1", "2", "18"])
@pytest.mark.parametrize("wins", [0.0, 0.02])
def test_looking_after_every_picture_costs_nothing(kind: str, wins: float) -> None:
    rng = np.random.default_rng([len(kind), int(100 * wins)])
    for margin in (0.01, 0.05):
        sums, sizes, _ = differences(kind, margin, wins).draw(rng, 1500, 500)
        for above in (True, False):
            wealth = stats.log_wealth(sums, sizes, margin, float(kind), above)
            assert allowed(decisions.rate(wealth.max(axis=1) > math.log(20)))


def test_betting_decides_early_and_on_the_mean_over_questions() -> None:
    """Large pictures lose, small ones do not: over pictures the loss is within 3 points, over questions it is not."""
    design = Design(np.array([0.8, 0.2]), np.array([0.0, -1.0]), np.array([1.0, 10.0]), np.array([0.0, 1.0]))
    assert design.truth == pytest.approx(-0.0714, abs=1e-4)
    sums, sizes, _ = design.draw(np.random.default_rng(3), 300, 2000)
    over_questions = [stats.first_decision(s, m, 0.03, 10).verdict for s, m in zip(sums[:60], sizes[:60], strict=True)]
    assert over_questions.count("worse") > 55
    over_pictures = [
        stats.first_decision(s / m, np.ones(2000), 0.03, 1).verdict for s, m in zip(sums, sizes, strict=True)
    ]
    assert over_pictures.count("within") > 250
    equal = stats.log_wealth(np.zeros(300), np.ones(300), 0.03, 1)
    # The rule of three asks for 99 pictures; half of the wealth waits in other bets, log(2) / 0.03 pictures more.
    assert int(np.argmax(equal > math.log(20))) < 99 + 24


def test_mid_p_mcnemar_is_closer_to_its_level_than_the_exact_test() -> None:
    rng = np.random.default_rng(5)
    wins, losses, _ = rng.multinomial(200, [0.05, 0.05, 0.9], 4000).T
    p = np.array([stats.mcnemar(int(w), int(lost)) for w, lost in zip(wins, losses, strict=True)])
    assert 0.038 < (p < 0.05).mean() < 0.052


@pytest.mark.parametrize(("kept", "base", "pictures"), [(0.99, 0.8, 50), (0.97, 0.8, 200), (0.8, 0.2, 30)])
def test_retention_near_one_is_covered(kept: float, base: float, pictures: int) -> None:
    rng = np.random.default_rng(pictures)
    held = []
    for _ in range(500):
        hard = rng.beta(base * 2.33, (1 - base) * 2.33, pictures)
        parts = {}
        for name in "abcd":
            full = (rng.random(pictures) < hard).astype(float)
            if full.any():
                parts[name] = stats.Part(full * (rng.random(pictures) < kept), full, list(range(pictures)))
        found = stats.retention_average(parts)
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= kept <= found.high)
    assert np.mean(held) > 0.93
