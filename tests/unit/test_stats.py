"""Statistics against scipy, statsmodels and values known from the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from hero_ray import stats
from hero_ray.core.types import Sample, Scored
from hero_ray.stats.evidence import wilson
from hero_ray.stats.paired import sign_flip

RNG = np.random.default_rng(20261121)


def scored(values: list[float], pictures: list[str]) -> list[Scored]:
    samples = [Sample("b", str(i), "?", None, picture, None) for i, picture in enumerate(pictures)]
    return [Scored(sample, "", {"x": value}) for sample, value in zip(samples, values, strict=True)]


# --- intervals ---


def test_wilson_equals_statsmodels() -> None:
    low, high = wilson(15 / 50, 50, 1.959963984540054)
    assert (low, high) == pytest.approx(proportion_confint(15, 50, method="wilson"))


def test_wilson_equals_the_printed_value() -> None:
    # Newcombe 1998, table I: 81 of 263, Wilson score interval 0.2553 to 0.3662.
    assert wilson(81 / 263, 263, 1.959963984540054) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_one_sample_per_picture_is_the_ordinary_t_interval() -> None:
    values = RNG.normal(5, 2, 40)
    found = stats.mean_interval(values)
    low, high = scipy_stats.t.interval(0.95, 39, values.mean(), scipy_stats.sem(values))
    assert (found.low, found.high, found.kind) == (pytest.approx(low), pytest.approx(high), "cluster-t")


def test_equal_clusters_are_a_t_interval_over_cluster_means() -> None:
    values = RNG.normal(0, 1, (30, 4)) + RNG.normal(0, 2, (30, 1))
    found = stats.mean_interval(values.ravel(), np.repeat(np.arange(30), 4))
    means = values.mean(axis=1)
    low, high = scipy_stats.t.interval(0.95, 29, means.mean(), scipy_stats.sem(means))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_unequal_clusters_equal_statsmodels_robust_errors() -> None:
    import statsmodels.api as sm

    clusters = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 5, 5])
    values = RNG.normal(size=clusters.size)
    options = {"groups": clusters, "use_correction": False}
    fitted = sm.OLS(values, np.ones(clusters.size)).fit(cov_type="cluster", cov_kwds=options)
    se, count = stats.standard_error(values, clusters)
    assert count == 6
    assert se == pytest.approx(float(fitted.bse[0]) * math.sqrt(6 / 5))


def test_perfect_scores_still_have_an_interval() -> None:
    found = stats.mean_interval([1.0] * 20)
    assert found.high == 1.0
    assert found.low is not None
    assert 0.7 < found.low < 0.9


def test_questions_of_one_picture_are_not_independent_evidence() -> None:
    right = np.repeat(RNG.integers(0, 2, 50), 18).astype(float)
    clustered = stats.mean_interval(right, np.repeat(np.arange(50), 18))
    naive = stats.mean_interval(right)
    assert clustered.se > 3 * naive.se
    assert (clustered.n, clustered.n_clusters) == (900, 50)


def test_a_single_picture_says_nothing_about_others() -> None:
    found = stats.mean_interval([1.0, 0.0], ["a", "a"])
    assert (found.value, found.low, found.high, found.kind) == (0.5, None, None, "none")


@pytest.mark.parametrize("values", [[], [0.5, float("nan")]])
def test_scores_that_are_none_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected finite scores"):
        stats.mean_interval(values)


def test_a_composite_of_a_mean_agrees_with_the_mean() -> None:
    values = RNG.random(60).tolist()
    pictures = [str(i // 2) for i in range(60)]
    items = scored(values, pictures)
    found = stats.composite_interval(
        lambda s: float(np.mean([x.scores["x"] for x in s])), items, pictures, resamples=2000
    )
    expected = stats.mean_interval(values, pictures)
    assert found.kind == "cluster-bootstrap"
    assert found.se == pytest.approx(expected.se, rel=0.06)
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=0.02), pytest.approx(expected.high, abs=0.02))


def test_a_bootstrap_is_reproducible() -> None:
    items, pictures = scored([0.0, 1.0, 1.0, 0.5], list("abcd")), list("abcd")
    first, second = (stats.composite_interval(lambda s: float(len(s)), items, pictures) for _ in range(2))
    assert first == second


# --- paired tests ---


@pytest.mark.parametrize(("wins", "losses"), [(1, 0), (5, 12), (12, 5), (10, 10), (80, 121)])
def test_mcnemar_is_the_exact_test_of_statsmodels_less_half_of_what_was_seen(wins: int, losses: int) -> None:
    exact = float(reference_mcnemar([[3, wins], [losses, 4]], exact=True).pvalue)
    seen = scipy_stats.binom.pmf(wins, wins + losses, 0.5) if wins != losses else 0.0  # equal counts: p is 1 anyway
    assert stats.mcnemar(wins, losses) == pytest.approx(exact - seen)


def test_mcnemar_equals_a_hand_count() -> None:
    assert stats.mcnemar(0, 0) == 1.0
    assert stats.mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 64 - 6 / 64)


def test_yes_no_scores_get_mcnemar_and_clusters_a_permutation() -> None:
    a, b = np.array([1, 1, 1, 0, 1, 1, 0.0]), np.array([0, 0, 1, 0, 0, 0, 1.0])
    single = stats.paired(a, b)
    assert (single.test, single.wins, single.losses, single.ties) == ("mcnemar-midp", 4, 1, 2)
    assert single.p_value == pytest.approx(stats.mcnemar(4, 1))
    assert stats.paired(a, b, list("aabbccd")).test == "cluster-permutation"
    assert stats.paired(a, b + 0.5).test == "cluster-permutation"


def test_the_permutation_agrees_with_full_enumeration() -> None:
    sums = np.array([3.0, -1, 2, 4, 0.5, -0.25, 1.5, 2.5])
    signs = np.array([[1 if (i >> j) & 1 else -1 for j in range(8)] for i in range(256)])
    totals = np.abs(signs @ sums)
    observed = abs(sums.sum())
    exact = ((totals > observed + 1e-9).sum() + 0.5 * (np.abs(totals - observed) <= 1e-9).sum()) / 256
    assert sign_flip(sums, resamples=99_999) == pytest.approx(exact, abs=0.003)


def test_many_different_sums_agree_with_the_normal_limit() -> None:
    sums = RNG.normal(0.1, 1, 600)
    z = sums.sum() / math.sqrt(float((sums**2).sum()))
    assert sign_flip(sums) == pytest.approx(2 * scipy_stats.norm.sf(abs(z)), abs=0.01)


def test_equal_cells_do_not_differ() -> None:
    same = stats.paired([0.5, 1, 0], [0.5, 1, 0])
    assert (same.difference, same.p_value, same.verdict) == (0.0, 1.0, "undecided")


def test_three_equal_answers_exclude_little_and_their_interval_has_a_width() -> None:
    same = stats.paired([0.5, 1, 0], [0.5, 1, 0])
    bound = 1 - 0.025 ** (1 / 3)
    assert (same.low, same.high) == (pytest.approx(-bound), pytest.approx(bound))


def test_the_interval_of_a_difference_tends_to_the_paired_t_interval() -> None:
    for size, wider in ((60, 1.12), (6000, 1.012)):
        a, b = RNG.random(size), RNG.random(size)
        found = stats.paired(a, b)
        reference = scipy_stats.ttest_rel(a, b).confidence_interval(0.95)
        assert found.low is not None
        assert found.high is not None
        assert found.low < reference.low < reference.high < found.high
        assert found.high - found.low < wider * (reference.high - reference.low)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        stats.paired([1, 0], [1, 0, 1])


def test_shared_samples_are_lined_up() -> None:
    a, b = np.array(["s3", "s1", "s2"], dtype=object), np.array(["s2", "s4", "s3"], dtype=object)
    first, second = stats.shared(a, b)
    assert a[first].tolist() == b[second].tolist() == ["s2", "s3"]


def test_non_inferiority_tends_to_a_one_sided_t_test_from_the_cautious_side() -> None:
    a, b = RNG.random(5000), RNG.random(5000)
    for margin in (-0.005, 0.01, 0.015):
        found = stats.non_inferiority(a, b, margin)
        reference = float(scipy_stats.ttest_1samp(a - b + margin, 0, alternative="greater").pvalue)
        assert reference < found.p_claim < reference + 0.03
        assert 1 - reference < found.p_against < 1 - reference + 0.03


# --- families and power ---


@pytest.mark.parametrize(("mine", "theirs"), [(stats.holm, "holm"), (stats.benjamini_hochberg, "fdr_bh")])
def test_corrections_equal_statsmodels(mine: object, theirs: str) -> None:
    p = RNG.random(12) ** 3
    assert callable(mine)
    assert mine(p) == pytest.approx(multipletests(p, method=theirs)[1])
    assert mine([0.01, 0.04, 0.03, 0.005]) == pytest.approx(multipletests([0.01, 0.04, 0.03, 0.005], method=theirs)[1])


def test_holm_equals_a_hand_count() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_detectable_difference_has_the_power_it_is_named_for() -> None:
    assert stats.predicted_power(stats.detectable(0.02, power=0.8), 0.02) == pytest.approx(0.8, abs=1e-4)
    assert stats.detectable(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-5)


# --- retention ---


def test_retention_averages_ratios_over_benchmarks() -> None:
    parts = {"x": stats.Part([1, 0, 1, 0], [1, 1, 1, 1]), "y": stats.Part([1, 1, 0, 1], [1, 1, 0, 1])}
    found = stats.retention_average(parts)
    assert (found.value, found.n, found.n_clusters) == (0.75, 8, 8)
    assert found.low is not None
    assert found.low < 0.75


def test_keeping_everything_on_20_pictures_is_no_proof_of_keeping_everything() -> None:
    found = stats.retention_average({"x": stats.Part(np.ones(20), np.ones(20))})
    bound = 1 - 0.025 ** (1 / 20)
    assert (found.value, found.low, found.high) == (1.0, pytest.approx(1 - bound), pytest.approx(1 + bound))
    assert found.never_varies


def test_the_interval_of_one_ratio_agrees_with_a_bootstrap() -> None:
    full = (RNG.random(400) < 0.8).astype(float)
    kept = full * (RNG.random(400) < 0.9)
    found = stats.retention_average({"x": stats.Part(kept, full)})
    draws = []
    for _ in range(2000):
        pick = RNG.integers(0, 400, 400)
        draws.append(kept[pick].sum() / full[pick].sum())
    assert found.se == pytest.approx(float(np.std(draws)), rel=0.1)


def test_pictures_shared_between_benchmarks_are_one_cluster() -> None:
    scores, full = RNG.integers(0, 2, 40).astype(float), np.ones(40)
    pictures = [str(i) for i in range(40)]
    apart = stats.retention_average({n: stats.Part(scores, full, [n + p for p in pictures]) for n in "xy"})
    together = stats.retention_average({n: stats.Part(scores, full, pictures) for n in "xy"})
    assert together.se > 1.3 * apart.se


def test_a_composite_that_is_a_mean_agrees_with_the_mean() -> None:
    full = (RNG.random(300) < 0.8).astype(float)
    kept = full * (RNG.random(300) < 0.9)
    pictures = [str(i // 3) for i in range(300)]
    plain = stats.retention_average({"x": stats.Part(kept, full, pictures)})
    items = stats.CompositePart(lambda values: float(np.sum(values)), kept.tolist(), full.tolist(), pictures)
    composite = stats.retention_average({"x": items})
    assert composite.value == pytest.approx(plain.value)
    assert composite.se == pytest.approx(plain.se, rel=0.25)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="scores nothing on x"):
        stats.retention_average({"x": stats.Part([0, 0], [0, 0])})


def test_the_difficulty_split_follows_the_cheap_look() -> None:
    split = stats.difficulty_split([1, 1, 0, 1], [1, 1, 0, 0])
    assert split.simple is not None
    assert split.difficult is not None
    assert (split.simple.value, split.difficult.value, split.difficult.n) == (1.0, 0.5, 2)
    assert stats.difficulty_split([1, 0], [1, 1]).difficult is None
