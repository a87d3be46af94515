"""Composite figures: bootstraps, intervals and swaps against plain accounts of their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats

from hero_ray import stats
from hero_ray.stats.intervals import bootstrap_interval, bounds_of_draws, drawn_sums


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


def test_defaults_are_those_that_stored_figures_were_made_with() -> None:
    a, b = [0.0, 1.0, 1.0, 0.3, 0.2], [1.0, 0.0, 0.4, 0.3, 0.0]
    assert stats.composite_interval(mean, a) == stats.composite_interval(mean, a, None, 0.95, 1000, 0, 1.0)
    assert bootstrap_interval(mean, a) == bootstrap_interval(mean, a, None, 0.95, 1000, 0)
    assert stats.paired_composite(mean, a, b) == stats.paired_composite(mean, a, b, None, 0.95, 999, 0)
    assert stats.paired(a, b) == stats.paired(a, b, None, 0.95, 9999, 0)


def test_draws_are_read_by_their_middle_and_their_ends() -> None:
    draws = np.array([*range(21), np.nan, np.inf]) ** 2.0
    low, high = np.quantile(draws[:21], [0.3, 0.7])
    found = bounds_of_draws(draws, 3, 0.4)
    widen, spread = math.sqrt(1.5), np.std(draws[:21], ddof=1)
    assert found == pytest.approx((100 - widen * (100 - low), 100 + widen * (high - 100), spread * widen))
    assert (bounds_of_draws(draws, 1), bounds_of_draws(draws[2:], 3)) == (None, None)
    assert bounds_of_draws(draws, 2) is not None
    given = stats.composite_interval(mean, [0.0, 1.0, 1.0], level=0.4, draws=draws / 400)
    low, high, se = bounds_of_draws(draws / 400, 3, 0.4)  # type: ignore[misc]
    assert (given.low, given.high, given.se) == (min(low, given.low or 0), pytest.approx(max(2 / 3, high)), se)


@pytest.mark.parametrize("resamples", [1, 7, 300])
def test_sums_are_of_the_samples_a_bootstrap_draws(resamples: int) -> None:
    counts, pictures = np.array([[1.0, 10.0], [2.0, 0.0], [4.0, 5.0], [8.0, 1.0]]), list("abca")
    found = np.concatenate(list(drawn_sums(counts, pictures, resamples, seed=9)))
    for column in range(2):
        usual = stats.bootstrap(sum, counts[:, column].tolist(), pictures, resamples, seed=9)  # type: ignore[arg-type]
        assert found[:, column].tolist() == usual.tolist()
    assert np.concatenate(list(drawn_sums(counts))).shape == (1000, 2)


def test_many_sums_come_some_at_a_time() -> None:
    some = [part.shape for part in drawn_sums(np.ones((25_000, 1)), None, 120)]
    assert some == [(40, 1)] * 3


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


# --- comparisons by a composite ---


def swaps(a: list[float], b: list[float]) -> float:
    """Mid-p of the difference of means over all swaps of pictures, one question each."""
    gaps = np.array(a) - np.array(b)
    totals = np.abs([gaps @ signs for signs in product((1, -1), repeat=gaps.size)])
    observed = abs(gaps.sum())
    return float((totals > observed + 1e-9).mean() + 0.5 * (np.abs(totals - observed) <= 1e-9).mean())


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


def test_a_figure_from_sums_compares_as_the_figure_itself() -> None:
    """A share of two sums, over pictures with one to three questions."""
    rng = np.random.default_rng(5)
    pictures = np.repeat(np.arange(20), rng.integers(1, 4, 20))
    a, b = (np.c_[rng.integers(0, 2, pictures.size), np.ones(pictures.size)] for _ in range(2))

    def figure(items: Sequence[np.ndarray]) -> float:
        return float(sum(item[0] for item in items) / sum(item[1] for item in items))

    sums = stats.OfSums(a, b, lambda found: found[..., 0] / found[..., 1])
    options = {"clusters": pictures.tolist(), "level": 0.4, "resamples": 120, "seed": 4}
    slow = stats.paired_composite(figure, list(a), list(b), **options)  # type: ignore[arg-type]
    fast = stats.paired_composite(figure, list(a), list(b), of_sums=sums, **options)  # type: ignore[arg-type]
    fields = ("mean_a", "mean_b", "difference", "low", "high", "se", "p_value", "n", "n_clusters", "test")
    assert [getattr(fast, f) for f in fields[:-1]] == pytest.approx([getattr(slow, f) for f in fields[:-1]])
    assert fast.test == slow.test
    kept = sums.gaps(pictures.tolist(), 50, 1, share=0.5)
    first, second = (
        stats.bootstrap(figure, list(side), pictures.tolist(), 50, 1)
        for side in (a, b)  # type: ignore[arg-type]
    )
    assert kept == pytest.approx(first - 0.5 * second)


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


def test_one_picture_that_differs_is_one_spread_away() -> None:
    found = stats.paired_composite(mean, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], resamples=5)
    assert found.p_value == pytest.approx(2 * scipy_stats.norm.sf(1))
    assert stats.paired_composite(mean, [1.0, 0.0, 0.0], [0.0] * 3, resamples=99).p_value == 0.5  # all swaps tie


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
