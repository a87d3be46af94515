"""Intervals, bootstraps and paired tests against plain accounts of their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from hero_ray import stats
from hero_ray.stats.evidence import FIGURE, lower_bound
from hero_ray.stats.intervals import (
    bootstrap_interval,
    cluster_codes,
    cluster_sums,
    members,
    standard_error,
    summarise,
    t_quantile,
    t_tail,
)
from hero_ray.stats.paired import sign_flip

# --- clusters ---


def test_clusters_are_numbered_as_they_come() -> None:
    codes, count = cluster_codes(["b", "a", "b", "c"], 4)
    assert (codes.tolist(), count) == ([0, 1, 0, 2], 3)
    assert cluster_codes(np.array([7, 7, 5]), 3)[0].tolist() == [0, 0, 1]
    assert (cluster_codes(None, 3)[0].tolist(), cluster_codes(None, 3)[1]) == ([0, 1, 2], 3)
    with pytest.raises(ValueError, match="3 samples came with 2 clusters; expected one each"):
        cluster_codes(["a", "b"], 3)
    assert cluster_sums(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 0]), 4).tolist() == [5.0, 0.0, 2.0, 0.0]
    assert [group.tolist() for group in members(np.array([1, 0, 1, 2, 0]), 3)] == [[1, 4], [0, 2], [3]]


def test_students_t_equals_scipy() -> None:
    assert t_quantile(0.975, 7.5) == pytest.approx(scipy_stats.t.ppf(0.975, 7.5))
    assert t_tail(1.3, 7.5) == pytest.approx(scipy_stats.t.sf(1.3, 7.5))


def test_the_error_of_one_picture_is_unknown() -> None:
    se, count = standard_error([1.0, 0.0], ["a", "a"])
    assert (math.isnan(se), count) == (True, 1)
    assert standard_error([1.0, 0.0]) == (pytest.approx(0.5), 2)


# --- intervals of a mean ---


def flags(right: float, wrong: float, middle: int = 0) -> tuple[bool, bool, bool]:
    found = stats.mean_interval([1.0] * int(right) + [0.0] * int(wrong) + [0.5] * middle)
    return found.one_sided, found.never_varies, found.too_few_pictures


def test_what_a_reader_must_know_is_flagged_at_either_end() -> None:
    assert flags(92, 8) == flags(8, 92) == (False, False, False)
    assert flags(61, 3) == flags(3, 61) == (False, False, True)
    assert flags(60, 4) == flags(4, 60) == (False, False, True)
    assert flags(59, 5) == flags(5, 59) == (False, False, False)  # five pictures' worth of 64 are enough
    assert flags(100, 0) == flags(0, 100) == (True, True, False)
    assert flags(0, 0, 64) == (False, True, False)
    few = stats.mean_interval([3.0, 5.0, 4.0])
    assert (few.one_sided, few.never_varies, few.too_few_pictures, few.kind) == (False, False, True, "cluster-t")


def test_scores_in_the_unit_range_are_shares_and_others_are_not() -> None:
    kinds = [stats.mean_interval(values).kind for values in ([0.0, 1.0], [0.2, 1.1], [-0.1, 1.0], [0.3, 0.4])]
    assert kinds == ["cluster-wilson", "cluster-t", "cluster-t", "cluster-wilson"]


def test_levels_of_a_t_interval() -> None:
    values = np.array([1.0, 4.0, 2.0, 9.0, 5.0])
    found = stats.mean_interval(values, level=0.4)
    half = scipy_stats.t.ppf(0.7, 4) * scipy_stats.sem(values)
    assert (found.low, found.high) == (pytest.approx(4.2 - half), pytest.approx(4.2 + half))
    assert (found.value, found.se, found.n, found.n_clusters) == (4.2, pytest.approx(scipy_stats.sem(values)), 5, 5)


def test_two_pictures_have_an_interval_and_one_has_none() -> None:
    assert stats.mean_interval([0.0, 1.0]).low is not None
    single = stats.mean_interval([0.0, 1.0], ["a", "a"])
    assert (single.low, single.n, single.n_clusters, math.isnan(single.se)) == (None, 2, 1, True)
    assert (single.one_sided, single.never_varies, single.too_few_pictures) == (False, False, False)


# --- composites ---


def mean(items: Sequence[float]) -> float:
    return sum(items) / len(items)


def test_a_bootstrap_draws_whole_pictures_with_replacement() -> None:
    items, pictures = [1.0, 1.0, 10.0, 100.0], ["a", "a", "b", "c"]
    draws = stats.bootstrap(lambda drawn: float(np.sum(drawn)), items, pictures, resamples=500, seed=3)
    assert draws.size == 500
    possible = {2 * a + 10 * b + 100 * (3 - a - b) for a in range(4) for b in range(4 - a)}
    assert set(draws.tolist()) == {float(total) for total in possible}
    assert draws.mean() == pytest.approx(112, abs=4 * math.sqrt(3 * np.var([2, 10, 100]) / 500))
    again = stats.bootstrap(lambda drawn: float(np.sum(drawn)), items, pictures, resamples=500, seed=4)
    assert (draws != again).any()
    assert stats.bootstrap(mean, items).size == 1000


def test_percentiles_are_widened_for_the_number_of_pictures() -> None:
    items, pictures = [0.0, 1.0, 1.0, 0.0, 1.0, 0.3], list("aabccd")
    draws = stats.bootstrap(mean, items, pictures, resamples=400, seed=2)
    low, high = np.quantile(draws, [0.3, 0.7])
    centre, widen = np.median(draws), math.sqrt(4 / 3)
    found = bootstrap_interval(mean, items, pictures, level=0.4, resamples=400, seed=2)
    assert found == pytest.approx(
        (centre - widen * (centre - low), centre + widen * (high - centre), np.std(draws, ddof=1) * widen)
    )
    assert bootstrap_interval(mean, items, ["a"] * 6) is None
    assert bootstrap_interval(mean, items, list("aaabbb")) is not None


def test_undefined_figures_are_left_out_until_too_few_are_left() -> None:
    def some(defined: int) -> tuple[float, float, float] | None:
        calls = iter(range(40))
        return bootstrap_interval(
            lambda drawn: mean(drawn) if next(calls) < defined else math.nan, [0.0, 1.0, 0.5], resamples=40
        )

    assert some(19) is None
    for defined in (20, 21, 40):
        assert some(defined) is not None
        assert np.isfinite(some(defined)).all()  # type: ignore[arg-type]


def test_a_composites_interval_is_its_bootstrap_but_no_narrower_than_the_rule_of_three() -> None:
    items = [1.0] * 9 + [0.0] * 3
    low, high, se = bootstrap_interval(mean, items, None, 0.4, 300, 5)  # type: ignore[misc]
    found = stats.composite_interval(mean, items, None, 0.4, 300, 5)
    rule = 1 - 0.3 ** (1 / 12)
    assert (found.value, found.low, found.high) == (0.75, pytest.approx(min(0.75 * (1 - rule), low)), high)
    assert (found.se, found.one_sided, found.never_varies, found.n, found.n_clusters) == (se, False, False, 12, 12)
    nearly = stats.composite_interval(mean, [1.0] * 29 + [0.9], None, 0.4, 300, 5)
    assert nearly.low == pytest.approx((29.9 / 30) * 0.3 ** (1 / 30))
    assert nearly.high is not None
    assert nearly.high >= nearly.value


def test_a_composite_that_never_varies_has_the_error_its_bounds_tell() -> None:
    right = stats.composite_interval(mean, [3.0] * 10, scale=5.0, resamples=50)
    rule = 1 - 0.025**0.1
    assert (right.low, right.high, right.se) == (pytest.approx(3 * (1 - rule)), 3.0, pytest.approx(3 * rule / 3))
    assert (right.one_sided, right.never_varies, right.kind) == (True, True, "cluster-bootstrap")
    low = stats.composite_interval(mean, [0.5] * 10, scale=5.0, resamples=50)
    assert (low.low, low.high) == (pytest.approx(0.5 * (1 - rule)), 0.5)
    wrong = stats.composite_interval(mean, [0.0] * 10, scale=5.0, resamples=50)
    assert (wrong.low, wrong.high, wrong.se) == (0.0, pytest.approx(5 * rule), pytest.approx(5 * rule / 3))
    dust = stats.composite_interval(mean, [0.3, 0.1 + 0.2] * 10, scale=5.0, resamples=50)
    assert dust.never_varies
    alone = stats.composite_interval(mean, [0.0, 1.0], ["a", "a"])
    assert (alone.low, alone.high, alone.kind, alone.n, alone.n_clusters) == (None, None, "none", 2, 1)
    assert math.isnan(alone.se)


# --- paired tests ---


def brute(sums: np.ndarray) -> float:
    """Mid-p of all sign patterns."""
    signs = np.array([[1 if (i >> j) & 1 else -1 for j in range(sums.size)] for i in range(2**sums.size)])
    totals, observed = np.abs(signs @ np.abs(sums)), abs(sums.sum())
    return float(((totals > observed + 1e-9).sum() + 0.5 * (np.abs(totals - observed) <= 1e-9).sum()) / 2**sums.size)


@pytest.mark.parametrize(
    "sums",
    [[1 / 30, 2 / 30, -4 / 30, 11 / 30], [5.0, 5.0, -5.0, 0.0], [2.0], [-3.0, 3.0], [1 / 3, 1.0, 0.0, -2 / 3, 1 / 3]],
)
def test_sums_on_a_grid_are_counted_and_not_drawn(sums: list[float]) -> None:
    assert sign_flip(sums, resamples=1) == pytest.approx(brute(np.array(sums)))
    assert sign_flip([-one for one in sums], resamples=1) == pytest.approx(brute(np.array(sums)))


def test_p_is_never_nothing_and_never_above_one() -> None:
    assert sign_flip(np.ones(200)) == 1e-15
    assert sign_flip([0.0, 0.0]) == 1.0
    assert sign_flip([]) == 1.0


@pytest.mark.parametrize("count", [9, 300])
def test_off_the_grid_signs_are_drawn_and_counted_with_the_seen_one(count: int) -> None:
    """Few sizes and many are drawn in two ways; either must have the binomial spread about the exact p."""
    sums = np.sqrt(np.arange(2, 2 + count)) * np.where(np.arange(count) % 9 < 5, 1, -1) / 7
    exact = brute(sums) if count < 20 else 2 * scipy_stats.norm.sf(abs(sums.sum()) / np.sqrt((sums**2).sum()))
    assert sign_flip(sums, resamples=3000) == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 3000))
    assert sign_flip(sums, 100, seed=1) != sign_flip(sums, 100, seed=2)
    far = np.abs(sums) + 1
    assert sign_flip(far, resamples=99) == pytest.approx(0.5 / 100 if count > 20 else brute(far), abs=0.02)


def test_a_pattern_that_is_never_reached_counts_half_of_itself() -> None:
    assert sign_flip(math.pi * np.sqrt(np.arange(1, 61)), resamples=99) == 0.005


def test_verdicts_follow_p_and_the_sign() -> None:
    def made(p: float, difference: float) -> str:
        return stats.Paired(9, 9, 0.5, 0.5, difference, None, None, 0.1, p, "t", 1, 1, 7).verdict

    assert (made(0.049, 0.1), made(0.049, -0.1), made(0.05, 0.1), made(0.2, -0.1)) == (
        "better", "worse", "undecided", "undecided",
    )  # fmt: skip


def test_a_comparison_counts_and_bounds_what_differs() -> None:
    a, b = np.array([1, 0.5, 0, 1, 0.2, 0.7]), np.array([0, 0.5, 1, 0.4, 0.1, 0.9])
    pictures = list("aabbcd")
    found = stats.paired(a, b, pictures, level=0.4)
    assert (found.n, found.n_clusters, found.wins, found.losses, found.ties) == (6, 4, 3, 2, 1)
    assert (found.mean_a, found.mean_b) == (pytest.approx(3.4 / 6), pytest.approx(2.9 / 6))
    assert (found.difference, found.test) == (pytest.approx(0.5 / 6), "cluster-permutation")
    assert found.p_value == pytest.approx(brute(np.array([1.0, -0.4, 0.1, -0.2])))
    evidence = summarise(a - b, *cluster_codes(pictures, 6))
    assert found.se == pytest.approx(math.sqrt(float(evidence.variance)))
    expected = lower_bound(evidence, 0.3, 1.0, FIGURE), -lower_bound(evidence.mirrored, 0.3, 1.0, FIGURE)
    assert (found.low, found.high) == pytest.approx(tuple(map(float, expected)))
    assert stats.bounds(a - b, pictures, level=0.4) == (found.low, found.high)
    usual = stats.paired(a, b, pictures)
    assert stats.bounds(a - b, pictures) == (usual.low, usual.high)
    assert (usual.low or 0) < (found.low or 0)


def test_any_number_of_single_questions_gets_mcnemar() -> None:
    many = np.tile([1.0, 0.0], 400)
    assert stats.paired(many, 1 - many).test == "mcnemar-midp"
    assert stats.paired(many, many * 0.5).test == stats.paired(many * 0.5, many).test == "cluster-permutation"


def test_a_comparison_on_one_picture_has_no_bounds() -> None:
    single = stats.paired([1, 0], [0, 0], ["a", "a"])
    assert (single.low, single.high, math.isnan(single.se), single.n_clusters) == (None, None, True, 1)
    assert stats.bounds([1.0, 0.0], ["a", "a"]) == (None, None)
    assert stats.paired([1, 0], [0, 0]).low is not None


def test_shared_positions_follow_the_ids() -> None:
    first, second = stats.shared(np.array(["b", "a", "c"], object), np.array(["c", "b"], object))
    assert (first.tolist(), second.tolist()) == ([0, 2], [1, 0])


# --- comparisons by a composite ---


def swaps(a: list[float], b: list[float]) -> float:
    """Mid-p of the difference of means over all swaps of pictures, one question each."""
    return brute(np.array(a) - np.array(b))


def test_a_composite_comparison_swaps_whole_pictures() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random(12) < 0.8).astype(float).tolist(), (rng.random(12) < 0.5).astype(float).tolist()
    found = stats.paired_composite(mean, a, b, resamples=999)
    assert found.p_value == pytest.approx(swaps(a, b), abs=0.06)
    turned = stats.paired_composite(mean, b, a, resamples=999)
    assert (turned.difference, turned.p_value) == (
        pytest.approx(-found.difference),
        pytest.approx(found.p_value, abs=0.06),
    )
    assert (found.n, found.n_clusters, found.test) == (12, 12, "cluster-swap")
    assert (found.wins, found.losses, found.ties) == (0, 0, 0)
    assert (found.mean_a, found.mean_b, found.difference) == (mean(a), mean(b), mean(a) - mean(b))
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    low, high, se = bootstrap_interval(mean, gaps, None, 0.95, 999)  # type: ignore[misc]
    assert (found.low, found.high, found.se) == pytest.approx((low, high, se))


def test_pictures_are_swapped_whole() -> None:
    pictures = np.repeat(np.arange(6), 5).tolist()
    a, b = np.repeat([1.0, 1, 1, 1, 1, 0], 5).tolist(), [0.0] * 30
    found = stats.paired_composite(mean, a, b, pictures, resamples=499)
    assert found.p_value == pytest.approx(0.5 * 2 / 32, abs=0.02)  # all five one way, half counted
    assert found.n_clusters == 6


def test_swaps_that_never_come_as_far_leave_the_normal_tail() -> None:
    a, b = [1.0] * 40, [0.0] * 39 + [1.0]
    found = stats.paired_composite(mean, a, b, resamples=199)
    assert scipy_stats.norm.isf(found.p_value / 2) == pytest.approx(39 / math.sqrt(39), rel=0.1)  # the p is 4e-10


def test_a_composite_that_did_not_differ_keeps_a_width() -> None:
    same = stats.paired_composite(lambda s: 2 * mean(s), [1.0, 0.0] * 10, [1.0, 0.0] * 10, level=0.4, resamples=99)
    rule = 1 - 0.3 ** (1 / 20)
    assert (same.low, same.high, same.p_value) == (pytest.approx(-rule), pytest.approx(rule), 1.0)
    assert same.se == pytest.approx(rule / 3)
    nothing = stats.paired_composite(mean, [0.0] * 20, [0.0] * 20, level=0.4, resamples=99)
    assert (nothing.low, nothing.high) == (pytest.approx(-rule), pytest.approx(rule))


def test_a_composite_on_one_picture_has_no_bounds_and_none_is_refused() -> None:
    single = stats.paired_composite(mean, [1.0, 0.0], [0.0, 0.0], ["a", "a"], resamples=99)
    assert (single.low, single.high, math.isnan(single.se)) == (None, None, True)
    assert (single.n, single.n_clusters, single.wins, single.losses, single.ties) == (2, 1, 0, 0, 0)
    for a, b in (([1.0], [1.0, 0.0]), ([], [])):
        with pytest.raises(ValueError, match=f"got {len(a)} and {len(b)}"):
            stats.paired_composite(mean, a, b)
