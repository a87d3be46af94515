"""Families of verdicts, missing answers, betting and planning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hero_ray import stats
from hero_ray.stats.anytime import BETS
from hero_ray.stats.frontier import Point, frontier, tied_costs

# --- families ---


def test_safe_and_unsafe_are_one_family_of_cells() -> None:
    safe, unsafe = stats.both_ways([0.01, 0.6, 0.9], [0.99, 0.4, 0.02])
    assert safe.tolist() == pytest.approx([0.03, 1.0, 1.0])
    assert unsafe.tolist() == pytest.approx([1.0, 1.0, 0.06])
    one, _ = stats.both_ways([0.04], [0.96])
    assert one.tolist() == pytest.approx([0.04])  # a single cell pays nothing for being asked both ways
    assert [part.size for part in stats.both_ways([], [])] == [0, 0]


def test_any_of_pays_for_every_benchmark() -> None:
    assert stats.any_of([0.02, 0.5, 0.9]) == pytest.approx(0.06)
    assert stats.any_of([0.6, 0.9]) == 1.0


def test_levels_agree_with_holms_verdicts() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        p = rng.random(7) ** 4
        alpha = 1 - stats.holm_levels(p)
        assert ((p < alpha) == (stats.holm(p) < 0.05)).all()
    assert stats.holm_levels([0.03]).tolist() == pytest.approx([0.95])


def test_costs_within_a_percent_are_ties_that_do_not_chain() -> None:
    assert tied_costs([1.0, 1.008, 1.016, 3.0]).tolist() == [1.0, 1.0, 1.016, 3.0]
    assert tied_costs([1.0, 1.5, 9.0], [0.4, 0.4, 0.0]).tolist() == [1.0, 1.0, 9.0]
    assert tied_costs([-100.0, -99.5]).tolist() == [-100.0, -100.0]


def test_a_hair_less_cost_puts_nobody_on_the_frontier() -> None:
    """random@10% needs 0.02 % fewer FLOPs than fastervlm@10% and scores 24 points less."""
    placed = frontier([Point("random", "r", 3.735e8, 0.397, 0.36, 0.43), Point("good", "g", 3.736e8, 0.632, 0.6, 0.66)])
    assert {entry.point.id: entry.state for entry in placed} == {"random": "dominated", "good": "frontier"}
    assert [entry.point.cost for entry in placed] == [3.736e8, 3.735e8]  # shown as they are, the better one first


def test_more_rivals_need_more_evidence() -> None:
    def state(rivals: int) -> str:
        cells = [Point(f"r{i}", "r", 1.0, 0.8 - i / 1e4, 0.7, 0.9) for i in range(rivals)]
        placed = frontier([*cells, Point("x", "x", 2.0, 0.7, 0.6, 0.8)], lambda a, b: 0.02 if a == "r0" else 0.5)
        return next(entry.state for entry in placed if entry.point.id == "x")

    assert (state(1), state(2), state(3)) == ("dominated", "dominated", "unclear")


# --- betting ---


def test_wealth_equals_a_bet_by_bet_account() -> None:
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 4, 30)
    sums = rng.integers(-1, 2, 30) * sizes
    for above in (True, False):
        found = stats.log_wealth(sums, sizes, 0.05, 3, above)
        purses = dict(BETS[above])
        assert sum(purses.values()) == pytest.approx(1.0)
        for t in range(30):
            won = (sums[t] + 0.05 * sizes[t]) / 3 * (1 if above else -1)
            purses = {bet: purse * (1 + bet / (0.95 if above else 1.05) * won) for bet, purse in purses.items()}
            assert found[t] == pytest.approx(math.log(sum(purses.values())))
    several = stats.log_wealth(sums, sizes, np.array([[0.05], [0.1]]), 3)
    assert several[1] == pytest.approx(stats.log_wealth(sums, sizes, 0.1, 3))


def test_an_empty_start_and_a_wrong_bound_are_told() -> None:
    assert stats.first_decision([], [], 0.03, 1).verdict == "undecided"
    with pytest.raises(ValueError, match="at most 1 questions"):
        stats.log_wealth([1.0], [2], 0.03, 1)
    with pytest.raises(ValueError, match="within 1 for each"):
        stats.log_wealth([1.5], [1], 0.03, 1)


def test_identical_answers_are_called_in_a_fifth_of_the_pictures_the_sequence_took() -> None:
    """28 cells, margin 1: the confidence sequence needed 4,142 pictures, the rule of three 962."""
    found = stats.first_decision(np.zeros(2000), np.ones(2000), 0.01, 1, family=27)
    assert found.verdict == "within"
    assert found.pictures < 4142 / 5


def test_decisions_never_revert() -> None:
    rng = np.random.default_rng(9)
    sums = -(rng.random(300) < 0.25).astype(float)
    whole = stats.first_decision(sums, np.ones(300), 0.03, 1, family=27)
    assert whole.verdict == "worse"
    for t in range(whole.pictures, 300, 20):
        assert stats.first_decision(sums[:t], np.ones(t), 0.03, 1, family=27) == whole
    assert (
        stats.first_decision(sums[: whole.pictures - 1], np.ones(whole.pictures - 1), 0.03, 1, 27).verdict
        == "undecided"
    )


# --- planning ---


def test_a_plan_is_enough_and_not_much_more() -> None:
    rng = np.random.default_rng(12)
    for margin, loss, changed in ((0.03, 0.006, 0.006), (0.03, 0.006, 0.05), (0.05, 0.0, 0.1)):
        need = stats.pictures_needed(margin, 0.8, loss, changed)
        assert need.pictures is not None

        def shown(pictures: int, loss: float = loss, changed: float = changed, margin: float = margin) -> float:
            found = 0
            for _ in range(400):
                draws = rng.random(pictures)
                losses, wins = draws < (changed + loss) / 2, draws > 1 - (changed - loss) / 2
                found += stats.one_sided(wins * 1.0 - losses + margin).p_claim < 0.05
            return found / 400

        assert 0.74 < shown(need.pictures) < 0.95
        assert shown(int(0.6 * need.pictures)) < 0.8


def test_a_plan_never_promises_less_than_the_rule_of_three() -> None:
    need = stats.pictures_needed(0.01, 0.5, 0.0, 0.0)
    assert need.at_least == 299
    assert need.pictures == 299
    uneven = stats.pictures_needed(0.01, 0.5, 0.0, 0.0, sizes=[1] * 50 + [50])
    assert uneven.pictures is not None
    assert uneven.pictures > 3 * need.pictures


def test_more_power_and_more_alike_questions_need_more_pictures() -> None:
    base = stats.pictures_needed(0.02, 0.8, changed=0.1, alike=0.2, sizes=[18])
    more = stats.pictures_needed(0.02, 0.9, changed=0.1, alike=0.2, sizes=[18])
    alike = stats.pictures_needed(0.02, 0.8, changed=0.1, alike=0.9, sizes=[18])
    assert base.pictures is not None
    assert more.pictures is not None
    assert alike.pictures is not None
    assert base.pictures < more.pictures < alike.pictures


def test_a_plan_below_its_own_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="below a margin"):
        stats.pictures_needed(0.01, loss=0.02)


# --- retention ---


def test_the_same_composite_twice_is_no_more_evidence() -> None:
    rng = np.random.default_rng(3)
    full = np.ones(300)
    kept = (rng.random(300) < 0.9).astype(float)
    pictures = [str(i // 3) for i in range(300)]
    part = stats.CompositePart(lambda s: float(np.sum(s)), kept.tolist(), full.tolist(), pictures)
    once, twice = stats.retention_average({"x": part}), stats.retention_average({"x": part, "y": part})
    assert twice.se == pytest.approx(once.se)
    mixed = stats.retention_average({"x": part, "y": stats.Part(kept, full, pictures)})
    assert mixed.se == pytest.approx(once.se, rel=0.05)


def test_a_retention_claim_can_be_turned_and_shifted() -> None:
    full, kept = np.ones(200), np.r_[np.zeros(10), np.ones(190)]
    a, b = {"x": stats.Part(kept, full)}, {"x": stats.Part(full, full)}
    plain = stats.retention_difference(a, b, 0.9)
    assert plain.value == pytest.approx(0.05)
    turned = stats.retention_difference(a, b, 0.9, sign=-1.0)
    assert (turned.value, turned.p_claim) == (pytest.approx(-0.05), pytest.approx(plain.p_against))
    assert stats.retention_difference(a, b, 0.9, offset=0.05).value == pytest.approx(0.0)
