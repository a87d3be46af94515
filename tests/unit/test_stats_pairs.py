"""Intervals, bootstraps and paired tests against plain accounts of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from hero_ray import stats
from hero_ray.stats import clusters
from hero_ray.stats.clusters import cluster_codes, cluster_sums
from hero_ray.stats.evidence import FIGURE, lower_bound
from hero_ray.stats.intervals import (
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
    assert cluster_codes(np.array([-7, 10**9, -7]), 3)[0].tolist() == [0, 1, 0]
    numbers = np.random.default_rng(0).integers(0, 40, 100)
    codes, count = cluster_codes(numbers, 100)
    named, known = cluster_codes([f"p{number}" for number in numbers], 100)
    assert (codes.tolist(), count) == (named.tolist(), known)
    assert (cluster_codes(None, 3)[0].tolist(), cluster_codes(None, 3)[1]) == ([0, 1, 2], 3)
    with pytest.raises(ValueError, match="3 samples came with 2 clusters; expected one each"):
        cluster_codes(["a", "b"], 3)
    assert cluster_sums(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 0]), 4).tolist() == [5.0, 0.0, 2.0, 0.0]


def test_an_array_that_nobody_can_write_to_is_numbered_once() -> None:
    pictures = np.array(["b", "a", "b"], dtype=object)
    view = pictures[:]
    view.flags.writeable = False
    pictures[0] = "a"
    assert cluster_codes(view, 3)[0].tolist() == [0, 0, 1]
    pictures[0] = "b"  # through what the view looks at
    assert cluster_codes(view, 3)[0].tolist() == [0, 1, 0]
    first = cluster_codes(pictures, 3)[0]
    assert cluster_codes(pictures, 3)[0] is not first
    pictures.flags.writeable = False
    assert cluster_codes(pictures, 3)[0].tolist() == first.tolist()
    assert cluster_codes(pictures, 3)[0] is cluster_codes(pictures, 3)[0]
    with pytest.raises(ValueError, match="3 samples came with 2"):
        cluster_codes(pictures[:2], 3)


def test_what_was_numbered_is_forgotten_with_its_array() -> None:
    held = len(clusters._known)
    for _ in range(3):
        pictures = np.array(["b", "a"], dtype=object)
        pictures.flags.writeable = False
        cluster_codes(pictures, 2)
        assert len(clusters._known) == held + 1
        del pictures
        assert len(clusters._known) == held
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


def test_every_draw_of_many_sizes_is_made() -> None:
    """Sums that cancel: any sign pattern but theirs lies further out."""
    sizes = np.sqrt(np.arange(2, 262))
    assert sign_flip(np.concatenate([sizes, -sizes]), resamples=20_000) == pytest.approx(20_000.5 / 20_001, abs=1e-9)


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
    assert (single.low, single.high, math.isnan(single.se)) == (None, None, True)
    assert stats.bounds([1.0, 0.0], ["a", "a"]) == (None, None)
    assert stats.paired([1, 0], [0, 0]).low is not None


def test_shared_positions_follow_the_ids() -> None:
    first, second = stats.shared(np.array(["b", "a", "c"], object), np.array(["c", "b"], object))
    assert (first.tolist(), second.tolist()) == ([0, 2], [1, 0])
