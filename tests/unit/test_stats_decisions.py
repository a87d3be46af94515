"""Families, frontiers, betting and planning against plain accounts of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from hero_ray import stats
from hero_ray.stats.evidence import influences, p_at_most
from hero_ray.stats.frontier import Placed, Point, frontier, staircase, tied_costs

# --- families ---


def test_holm_pays_for_the_claims_that_can_be_true_together() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert stats.holm(p, at_most=2).tolist() == pytest.approx([0.02, 0.06, 0.06, 0.01])
    assert stats.holm(p, at_most=1).tolist() == pytest.approx([0.01, 0.04, 0.03, 0.005])
    assert stats.holm(p, at_most=9).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.4, 0.9, 0.6]).tolist() == [1.0, 1.0, 1.0]
    assert stats.benjamini_hochberg([0.9, 1.0, 0.01]).tolist() == pytest.approx([1.0, 1.0, 0.03])
    assert [stats.holm([]).size, stats.benjamini_hochberg([]).size] == [0, 0]


def test_any_of_nothing_shows_nothing() -> None:
    assert (stats.any_of([]), stats.any_of([0.2]), stats.any_of([0.3, 0.2])) == (1.0, 0.2, pytest.approx(0.4))


def test_levels_step_down_until_the_first_verdict_that_fails() -> None:
    found = 1 - stats.holm_levels([0.5, 0.001, 0.02, 0.6], level=0.9)
    # .1/4 holds for .001, .1/3 for .02, .1/2 fails for .5 and stays for .6
    assert found.tolist() == pytest.approx([0.05, 0.025, 0.1 / 3, 0.05])
    assert (1 - stats.holm_levels([0.01, 0.02])).tolist() == pytest.approx([0.025, 0.05])
    assert (1 - stats.holm_levels([0.25, 0.0], level=0.5)).tolist() == pytest.approx([0.5, 0.25])
    assert (1 - stats.holm_levels([0.25, 0.75], level=0.5)).tolist() == pytest.approx([0.25, 0.25])


# --- frontiers ---


def test_an_interval_tells_its_error() -> None:
    assert Point("a", "a", 1, 0.5, 0.4, 0.6).se == pytest.approx(0.2 / (2 * scipy_stats.norm.ppf(0.975)))
    assert [Point("a", "a", 1, 0.5, low, high).se for low, high in ((None, None), (None, 0.6), (0.4, None))] == [
        0.0
    ] * 3


def test_noise_of_two_costs_adds_up_and_the_cheapest_counts() -> None:
    assert tied_costs([1.0, 1.5], [0.3, 0.4]).tolist() == [1.0, 1.0]  # hypot is .5
    assert tied_costs([1.0, 1.51], [0.3, 0.4]).tolist() == [1.0, 1.51]
    assert tied_costs([100.0, 101.0, 101.5]).tolist() == [100.0, 100.0, 101.5]
    assert tied_costs([3.0, 1.0, 1.005]).tolist() == [3.0, 1.0, 1.0]
    assert tied_costs([-100.0, -98.5]).tolist() == [-100.0, -98.5]


def one(placed: list[Placed], name: str) -> Placed:
    return next(entry for entry in placed if entry.point.id == name)


def test_a_rival_must_be_above_by_what_both_intervals_allow() -> None:
    """Two cells of equal cost, errors .03 and .04: the hypotenuse is .05, z .0822 / .05 = 1.645."""
    half = 1.959963984540054
    for gap, state in ((0.0830, "dominated"), (0.0815, "unclear")):
        good = Point("good", "g", 1.0, 0.8, 0.8 - 0.03 * half, 0.8 + 0.03 * half)
        bad = Point("bad", "b", 1.0, 0.8 - gap, 0.8 - gap - 0.04 * half, 0.8 - gap + 0.04 * half)
        found = one(frontier([good, bad]), "bad")
        assert (found.state, found.beaten_by) == (state, "good")
        assert found.p_frontier == pytest.approx(scipy_stats.norm.sf(gap / 0.05), abs=0.02)
    assert one(frontier([good, bad], alpha=0.06), "bad").state == "dominated"


def test_exact_points_are_dominated_by_any_that_is_better_or_cheaper() -> None:
    placed = frontier([Point("a", "a", 1, 0.9), Point("b", "b", 2, 0.9), Point("c", "c", 2, 0.8)])
    assert [(entry.point.id, entry.state, entry.beaten_by) for entry in placed] == [
        ("a", "frontier", None), ("b", "unclear", "a"), ("c", "dominated", "a"),
    ]  # fmt: skip
    assert [entry.p_frontier for entry in placed] == [1.0, 0.0, 0.0]
    assert [entry.group for entry in placed] == [0, 0, -1]


def test_points_come_cheapest_first_then_best_then_by_name() -> None:
    points = [("d", 5, 0.5), ("b", 1, 0.4), ("c", 1, 0.6), ("a", 1, 0.4), ("e", 5.02, 0.9)]
    placed = frontier([Point(name, name, cost, value) for name, cost, value in points])
    assert [entry.point.id for entry in placed] == ["c", "a", "b", "e", "d"]
    assert staircase(placed) == ([1, 5.02], [0.6, 0.9])
    assert [one(placed, name).group for name in "ce"] == [0, 1]


def test_pairing_is_asked_only_where_intervals_leave_a_doubt() -> None:
    asked = []

    def p_better(a: str, b: str) -> float | None:
        asked.append((a, b))
        return 0.0 if b == "near" else None

    def point(name: str, cost: float, value: float) -> Point:
        return Point(name, name, cost, value, value - 0.05, value + 0.05)

    cells = [point("best", 1, 0.9), point("near", 1, 0.88), point("alike", 1, 0.87), point("far", 1, 0.3)]
    placed = {entry.point.id: entry.state for entry in frontier(cells, p_better)}
    assert placed == {"best": "frontier", "near": "dominated", "alike": "unclear", "far": "dominated"}
    assert set(asked) == {("best", "near"), ("best", "alike")}


@pytest.mark.parametrize(("z", "state"), [(2.56, "unclear"), (2.59, "dominated")])
def test_scores_are_read_down_to_a_tenth_of_the_error(z: float, state: str) -> None:
    """One in 200 is z 2.576; pairing, which sees nothing here, is asked below that only."""
    half = 0.03 * 1.959963984540054
    good = Point("good", "g", 1, 0.8, 0.8 - half, 0.8 + half)
    value = 0.8 - z * 0.03 * math.sqrt(2)
    bad = Point("bad", "b", 1, value, value - half, value + half)
    assert one(frontier([good, bad], lambda a, b: 0.5), "bad").state == state


def test_a_point_pays_for_all_that_cost_no_more_and_only_for_them() -> None:
    """p is .02: two rivals make it .04, three .06; a dearer one is no rival."""

    def state(cheaper: int, dearer: int) -> str:
        cells = [Point("best", "b", 1.0, 0.8, 0.7, 0.9)]
        cells += [Point(f"c{i}", "c", 1.5, 0.5, 0.4, 0.6) for i in range(cheaper)]
        cells += [Point(f"d{i}", "d", 9.0, 0.95, 0.85, 1.0) for i in range(dearer)]
        placed = frontier([*cells, Point("x", "x", 2.0, 0.7, 0.6, 0.8)], lambda a, b: 0.02)
        return one(placed, "x").state

    assert [state(0, 0), state(1, 0), state(2, 0), state(1, 3)] == ["dominated", "dominated", "unclear", "dominated"]


# --- betting ---


FOR = ((0.97, 0.5), (0.55, 0.2), (0.25, 0.15), (0.1, 0.15))
AGAINST = ((0.97, 0.75), (0.4, 0.15), (0.15, 0.1))
"""As documented; a decision that is stored was made with these."""


def test_wealth_of_shares_stays_on_their_scale() -> None:
    sums, sizes = np.array([2.0, 0.0, 1.0]), np.array([2, 1, 2])
    for above, worst, bets in ((True, 0.3, FOR), (False, 0.7, AGAINST)):
        found = stats.log_wealth(sums, sizes, -0.3, 2, above, ends=(0.0, 1.0))
        for t in range(3):
            purse = sum(
                share * math.prod(1 + bet * (s - 0.3 * m) / 2 * (1 if above else -1) / worst for s, m in
                                  zip(sums[: t + 1], sizes[: t + 1], strict=True))
                for bet, share in bets
            )  # fmt: skip
            assert found[t] == pytest.approx(math.log(purse))
    assert np.isfinite(stats.log_wealth([1.0], [1], 1.0, 1)).all()  # nothing can be lost: the bet is held finite
    assert stats.log_wealth([1.0 + 1e-12], [1], 0.1, 1).size == 1


def test_a_decision_comes_at_the_first_picture_that_is_enough() -> None:
    zeros, ones = np.zeros(400), np.ones(400)
    wealth = stats.log_wealth(zeros, ones, 0.05, 1)
    for family, alpha in ((1, 0.05), (27, 0.05), (1, 0.2)):
        first = int(np.flatnonzero(wealth > math.log(family / alpha))[0])
        found = stats.first_decision(zeros, ones, 0.05, 1, family, alpha)
        assert (found.verdict, found.pictures) == ("within", first + 1)
        assert found.log_within == pytest.approx(wealth[first])
        assert found.log_worse == pytest.approx(stats.log_wealth(zeros, ones, 0.05, 1, above=False)[first])
        short = stats.first_decision(zeros[:first], ones[:first], 0.05, 1, family, alpha)
        assert (short.verdict, short.pictures) == ("undecided", first)
        assert short.log_within == pytest.approx(wealth[first - 1])
    nothing = stats.first_decision([], [], 0.05, 1)
    assert (nothing.pictures, nothing.log_within, nothing.log_worse) == (0, 0.0, 0.0)


def test_worse_is_decided_on_the_best_case_of_missing_answers() -> None:
    lost, saved = -np.ones(60), np.zeros(60)
    assert stats.first_decision(lost, np.ones(60), 0.05, 1).verdict == "worse"
    found = stats.first_decision(lost, np.ones(60), 0.05, 1, best=saved)
    assert (found.verdict, found.pictures) == ("undecided", 60)
    won = stats.first_decision(np.ones(60), np.ones(60), 0.0, 1)
    assert won.verdict == "within"


def test_bounds_at_any_moment_are_the_means_no_bet_has_excluded() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 3, 150)
    sums = rng.binomial(sizes, 0.7).astype(float)
    limit = math.log(1 / 0.1)

    def excluded(mean: float, above: bool) -> bool:
        return bool(stats.log_wealth(sums, sizes, -mean, 2, above, (0.0, 1.0)).max() > limit)

    low, high = stats.interval_so_far(sums, sizes, 2, level=0.8)
    assert low < sums.sum() / sizes.sum() < high
    assert (excluded(low, True), excluded(low + 0.005, True)) == (True, False)
    assert (excluded(high, False), excluded(high - 0.005, False)) == (True, False)
    assert [200 * low, 200 * high] == pytest.approx([round(200 * low), round(200 * high)], abs=1e-9)
    assert stats.interval_so_far([], [], 1) == (0.0, 1.0)
    assert stats.interval_so_far(np.zeros(300), np.ones(300), 1)[0] == 0.0
    assert stats.interval_so_far(np.ones(300), np.ones(300), 1)[1] == 1.0


def test_a_test_so_far_is_one_over_the_most_that_was_won() -> None:
    sums, sizes = np.array([-1.0, 2.0, 0.0, -2.0, 1.0, 1.0]), np.array([1, 2, 1, 2, 1, 1])
    found = stats.one_sided_so_far(sums, sizes, 2, margin=0.1, level=0.4)
    assert (found.value, found.n, found.n_clusters) == (pytest.approx(1 / 8 + 0.1), 8, 6)
    for p, above in ((found.p_claim, True), (found.p_against, False)):
        assert p == pytest.approx(min(1.0, math.exp(-stats.log_wealth(sums, sizes, 0.1, 2, above).max())))
    many = np.tile(sums, 40), np.tile(sizes, 40)
    shifted = stats.one_sided_so_far(*many, 2, margin=0.1)
    plain = stats.one_sided_so_far(*many, 2)
    for side in ("low", "high", "value"):
        assert getattr(shifted, side) == pytest.approx(getattr(plain, side) + 0.1)
    assert plain.low is not None
    limit = math.log(1 / 0.05)
    assert stats.log_wealth(*many, -plain.low, 2).max() > limit >= stats.log_wealth(*many, -plain.low - 0.005, 2).max()
    sure = stats.one_sided_so_far(-np.ones(200), np.ones(200), 1)
    assert (sure.p_claim, sure.low) == (1.0, -1.0)


# --- planning ---


def shown(pictures: int, margin: float, lost: float, changed: float, power: float) -> bool:
    """Whether a sample as unlucky as the power allows is shown, one question a picture: influences made by hand."""
    between = changed - lost**2
    unlucky = lost + scipy_stats.norm.ppf(power) * math.sqrt(between / pictures)
    losses, wins = (changed - lost) / 2 + unlucky, (changed - lost) / 2
    evidence = influences(0.0, np.zeros(pictures), np.full(pictures, 1 / pictures))
    made = type(evidence)(
        np.asarray(-unlucky), np.asarray((losses + wins - unlucky**2) / pictures),
        np.asarray((losses - wins) / pictures**2), evidence.unit, evidence.top,
        np.asarray(changed * pictures), np.asarray(1 / pictures), evidence.df, pictures,
    )  # fmt: skip
    return float(p_at_most(made, -margin)) < 0.05


@pytest.mark.parametrize(("margin", "loss", "changed"), [(0.03, 0.006, 0.006), (0.03, 0.01, 0.08), (0.1, 0.0, 0.2)])
@pytest.mark.parametrize("power", [0.6, 0.9])
def test_a_plan_is_the_fewest_that_are_enough(margin: float, loss: float, changed: float, power: float) -> None:
    need = stats.pictures_needed(margin, power, loss, changed)
    assert need.pictures is not None
    assert need.power == power
    assert shown(need.pictures, margin, loss, changed, power)
    assert not shown(need.pictures - 1, margin, loss, changed, power)
    assert need.at_least == math.ceil(math.log(0.05) / math.log(1 - margin))


def test_a_plan_may_need_one_picture_more_than_agreement_does() -> None:
    need = stats.pictures_needed(0.18, 0.6, 0.0, 0.0005)
    assert (need.at_least, need.pictures) == (16, 17)
    assert [shown(pictures, 0.18, 0.0, 0.0005, 0.6) for pictures in (16, 17)] == [False, True]


def test_a_plan_takes_a_fifth_of_the_margin_and_losses_only_unless_told() -> None:
    assert stats.pictures_needed(0.05) == stats.pictures_needed(0.05, 0.8, 0.01, 0.01, 1.0, [1], 0.05)
    assert stats.pictures_needed(0.05, loss=0.02) == stats.pictures_needed(0.05, loss=0.02, changed=0.02)
    gain = stats.pictures_needed(0.05, loss=-0.01, changed=0.05).pictures
    none = stats.pictures_needed(0.05, loss=0.0, changed=0.05).pictures
    assert gain is not None
    assert none is not None
    assert gain < none


def test_a_loss_beyond_what_is_allowed_is_planned_for_as_a_gain_of_the_other_side() -> None:
    """Ten points are lost where three are allowed: the other side gains ten, at least three of them to be shown."""
    need = stats.pictures_needed(-0.03, 0.8, -0.1, 0.1)
    assert (need.at_least, need.pictures is not None) == (0, True)
    assert shown(need.pictures, -0.03, -0.1, 0.1, 0.8)  # type: ignore[arg-type]
    assert not shown(need.pictures - 1, -0.03, -0.1, 0.1, 0.8)  # type: ignore[operator]
    assert stats.pictures_needed(-0.03, 0.8, -0.05, 0.1).pictures > need.pictures  # type: ignore[operator]
    assert stats.pictures_needed(0.0, 0.8, -0.1, 0.1).pictures < need.pictures  # type: ignore[operator]


def test_uneven_pictures_count_by_what_they_weigh() -> None:
    """Half of the questions lie on pictures of 3: sizes 1, 1, 1, 3 have moments 6, 12 and 30 of four pictures."""
    need = stats.pictures_needed(0.02, 0.8, 0.0, 0.0, sizes=[1, 1, 1, 3])
    assert need.at_least == math.ceil(math.log(0.05) / math.log(0.98) * (30 / 4) / (12 / 4) / (6 / 4))
    assert stats.pictures_needed(0.02, 0.8, 0.0, 0.1, sizes=[4]) == stats.pictures_needed(0.02, 0.8, 0.0, 0.1)
    apart = stats.pictures_needed(0.02, 0.8, 0.0, 0.1, alike=0.0, sizes=[4]).pictures
    together = stats.pictures_needed(0.02, 0.8, 0.0, 0.1, alike=1.0, sizes=[4]).pictures
    assert apart is not None
    assert together is not None
    assert 2 < together / apart < 4.2


def test_what_no_number_of_pictures_can_show_is_told() -> None:
    assert stats.pictures_needed(0.01, loss=0.00999, changed=0.9).pictures is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": 0.0}, {"margin": 1.0}, {"margin": 0.1, "loss": 0.1}, {"margin": 0.1, "loss": 0.05, "changed": 0.04},
        {"margin": 0.1, "changed": 1.1}, {"margin": 0.1, "power": 0.0}, {"margin": 0.1, "power": 1.0},
        {"margin": 0.1, "loss": -0.2},
    ],
)  # fmt: skip
def test_plans_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a loss"):
        stats.pictures_needed(**wrong)  # type: ignore[arg-type]


def test_power_is_the_normal_one_and_wider_where_the_error_is_a_guess() -> None:
    ppf, cdf = scipy_stats.norm.ppf, scipy_stats.norm.cdf
    assert stats.detectable(0.02, 0.9, 0.1) == pytest.approx((ppf(0.95) + ppf(0.9)) * 0.02)
    t = scipy_stats.t(6).ppf
    assert stats.detectable(0.02, 0.9, 0.1, df=6) == pytest.approx((t(0.95) + t(0.9)) * 0.02)
    for effect in (0.03, -0.03, 0.0):
        expected = cdf(abs(effect) / 0.02 - ppf(0.95)) + cdf(-abs(effect) / 0.02 - ppf(0.95))
        assert stats.predicted_power(effect, 0.02, 0.1) == pytest.approx(expected)
    assert stats.predicted_power(0.0, 1.0) == pytest.approx(0.05)
