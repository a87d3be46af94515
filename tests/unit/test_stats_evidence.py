"""Evidence for nothing is nothing: verdicts and intervals of cells that hardly differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from hero_ray import stats
from hero_ray.stats.evidence import FIGURE, VERDICT, degrees_of_freedom, lower_bound, p_at_most, weigh
from hero_ray.stats.paired import sign_flip


def bounds(values: list[float] | np.ndarray, clusters: object = None) -> tuple[float, float]:
    found = stats.mean_interval(values, clusters)  # type: ignore[arg-type]
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


# --- decisions ---


def test_two_equal_pictures_prove_nothing() -> None:
    found = stats.non_inferiority([1, 1], [1, 1], 0.0001, ["a", "b"])
    assert found.p_claim > 0.99
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.7 < 0.7 < found.high


def test_seven_equal_pictures_are_put_in_words() -> None:
    pictures = [f"p{i % 7}" for i in range(12)]
    found = stats.non_inferiority(np.ones(12), np.ones(12), 0.001, pictures)
    assert found.p_claim > 0.9
    twice = stats.non_inferiority(np.ones(7), np.ones(7), 0.001)
    assert stats.seen(twice, 0.001) == "0 of 7 pictures differ; a loss up to 35 points is not excluded"
    alone = stats.non_inferiority([1, 1], [1, 0], 0.1, ["a", "a"])
    assert stats.seen(alone, 0.1) == "1 pictures decide nothing"


@pytest.mark.parametrize(("margin", "enough"), [(0.01, 299), (0.03, 99), (0.05, 59)])
def test_agreement_follows_the_rule_of_three(margin: float, enough: int) -> None:
    for pictures, shown in ((enough, True), (enough - 1, False)):
        same = np.ones(pictures)
        found = stats.non_inferiority(same, same, margin)
        assert found.p_claim == pytest.approx((1 - margin) ** pictures)
        assert (found.p_claim < 0.05) is shown
        assert found.low is not None
        assert (found.low > 0) is shown


@pytest.mark.parametrize("margin", [0.01, 0.03, 0.05])
def test_losses_only_are_never_shown_too_easily(margin: float) -> None:
    """One question a picture: the error of every number of pictures is a binomial sum, no simulation needed."""
    pictures = np.unique(np.geomspace(20, 1500, 60).astype(int))
    for count in pictures.tolist():
        losses = np.arange(int(count * margin) + 2)
        sums = np.zeros((losses.size, count))
        for row, lost in enumerate(losses):
            sums[row, :lost] = -1
        p = p_at_most(weigh(sums, np.ones(count), losses.astype(float)), -margin)
        shown = np.flatnonzero(p < 0.05)
        wrong = scipy_stats.binom.cdf(shown.max(), count, margin) if shown.size else 0.0
        assert wrong <= 0.0505


@pytest.mark.parametrize(("pictures", "least"), [(100, 0.5), (400, 0.98)])
def test_a_fifth_of_the_margin_is_shown_with_power(pictures: int, least: float) -> None:
    losses = np.arange(12)
    p = np.array(
        [
            stats.non_inferiority(np.r_[np.zeros(n), np.ones(pictures - n)], np.ones(pictures), 0.03).p_claim
            for n in losses
        ]
    )
    assert scipy_stats.binom.pmf(losses[p < 0.05], pictures, 0.006).sum() >= least


def test_ten_tiny_gains_are_no_superiority() -> None:
    assert stats.one_sided(np.full(10, 0.01)).p_claim > 0.5


def test_a_claim_met_exactly_is_neither_shown_nor_refuted() -> None:
    found = stats.one_sided(np.zeros(300))
    assert found.p_claim >= 0.5
    assert found.p_against >= 0.5


def test_bounds_and_p_values_agree() -> None:
    rng = np.random.default_rng(3)
    for seed in range(60):
        pictures = rng.integers(0, 5 + seed, 200)
        values = rng.choice([-1.0, 0.0, 0.3, 1.0], 200, p=[0.1, 0.7, 0.1, 0.1]) + 0.02 * rng.integers(-4, 5)
        found = stats.one_sided(values, pictures)
        assert found.low is not None
        assert found.high is not None
        assert (found.low > 0) == (found.p_claim < 0.05)
        assert (found.high < 0) == (found.p_against < 0.05)


def test_swapping_the_sides_swaps_the_answers() -> None:
    values = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 90, p=[0.2, 0.6, 0.2])
    left, right = stats.one_sided(values), stats.one_sided(-values)
    assert (left.p_claim, left.low) == (pytest.approx(right.p_against), pytest.approx(-right.high))  # type: ignore[operator]


def test_many_designs_at_once_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, (4, 30))
    sums = -rng.binomial(sizes, 0.1).astype(float)
    squares = -sums.sum(axis=-1)
    together = weigh(sums, sizes, squares)
    for unseen in (VERDICT, FIGURE):
        p, low = p_at_most(together, -0.2), lower_bound(together, 0.05, unseen=unseen)
        for i in range(4):
            single = weigh(sums[i], sizes[i], squares[i])
            assert float(p_at_most(single, -0.2)) == pytest.approx(p[i])
            assert float(lower_bound(single, 0.05, unseen=unseen)) == pytest.approx(low[i])


def test_degrees_of_freedom_equal_the_matrix_form() -> None:
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 50, 12).astype(float)
    share, spread = sizes / sizes.sum(), sizes + 0.4 * sizes * (sizes - 1)
    make = np.eye(12) - np.outer(share, np.ones(12))
    weight = np.diag(1 / np.sqrt(1 - share))
    q = weight @ make @ np.diag(spread) @ make.T @ weight
    assert float(degrees_of_freedom(share, spread)) == pytest.approx(np.trace(q) ** 2 / np.trace(q @ q))
    assert float(degrees_of_freedom(np.full(30, 1 / 30), np.ones(30))) == pytest.approx(29)


# --- intervals of a mean ---


@pytest.mark.parametrize("pictures", [7, 98, 400])
def test_all_right_is_the_rule_of_three(pictures: int) -> None:
    found = stats.mean_interval(np.ones(3 * pictures), np.arange(3 * pictures) % pictures)
    assert (found.low, found.high) == (pytest.approx(0.025 ** (1 / pictures)), 1.0)
    assert (found.one_sided, found.never_varies) == (True, True)
    low, high = bounds(np.zeros(pictures))
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / pictures)))


def test_an_answerer_that_always_says_no_gets_the_width_its_pictures_allow() -> None:
    """Two yes and two no questions on each of 100 pictures: 50.0 within 1.8 points, not within 9.7."""
    pictures = np.repeat(np.arange(100), 4)
    low, high = bounds(np.tile([1.0, 1, 0, 0], 100), pictures)
    assert (low, high) == (pytest.approx(0.4819, abs=1e-4), pytest.approx(0.5181, abs=1e-4))
    widths = [high - low]
    for deviating in (1, 2, 4):
        values = np.tile([1.0, 1, 0, 0], 100)
        values[: 4 * deviating] = [1.0, 1, 1, 0] * deviating
        found = stats.mean_interval(values, pictures)
        assert not found.never_varies
        low, high = bounds(values, pictures)
        widths.append(high - low)
    assert max(widths) < 2 * min(widths)  # it was a factor of 20


@pytest.mark.parametrize(("questions", "pictures"), [(329, 98), (60, 60), (900, 50), (40, 7)])
def test_one_more_wrong_answer_never_raises_the_lower_bound(questions: int, pictures: int) -> None:
    images = np.arange(questions) % pictures
    before = 1.0
    for wrong in range(min(pictures, 25)):
        low, _ = bounds(np.r_[np.zeros(wrong), np.ones(questions - wrong)], images)
        assert low <= before + 1e-12
        before = low


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 10_000))
def test_no_interval_of_a_share_has_zero_width_or_leaves_the_scale(pictures: int, each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.random(pictures * each) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])).astype(float)
    low, high = bounds(values, np.repeat(np.arange(pictures), each))
    assert 0 <= low <= values.mean() <= high <= 1
    assert high - low > 0.01


def test_few_wrong_answers_are_flagged() -> None:
    assert stats.mean_interval(np.r_[np.zeros(2), np.ones(198)]).too_few_pictures
    assert not stats.mean_interval(np.r_[np.zeros(20), np.ones(180)]).too_few_pictures
    assert not stats.mean_interval(np.ones(200)).too_few_pictures  # one-sided says it


def test_values_off_the_scale_that_never_vary_have_no_bounds() -> None:
    found = stats.mean_interval([7.0] * 20)
    assert (found.low, found.high, found.never_varies) == (None, None, True)


def test_composites_at_their_ends_keep_a_width() -> None:
    pictures = np.arange(60).tolist()
    right = stats.composite_interval(lambda s: 200 * float(np.mean(s)), [1.0] * 60, pictures, scale=2000)
    wrong = stats.composite_interval(lambda s: 200 * float(np.mean(s)), [0.0] * 60, pictures, scale=2000)
    rule = 1 - 0.025 ** (1 / 60)
    assert (right.low, right.high) == (pytest.approx(200 * (1 - rule)), 200)
    assert (wrong.low, wrong.high) == (0.0, pytest.approx(2000 * rule))
    assert right.one_sided
    assert wrong.se > 0
    same = stats.paired_composite(lambda s: float(np.sum(s)), [1.0] * 60, [1.0] * 60, pictures, resamples=99)
    assert same.p_value == 1.0
    assert same.low is not None
    assert same.low < -1


def test_a_clear_composite_difference_survives_the_correction_for_many_benchmarks() -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.random(400) < 0.9).tolist(), (rng.random(400) < 0.5).tolist()
    found = stats.paired_composite(lambda s: 100 * float(np.mean(s)), a, b, list(range(400)), resamples=299)
    reference = stats.paired(np.array(a, float), np.array(b, float))
    assert found.p_value < 0.05 / 1000
    assert reference.p_value < 0.05 / 1000


# --- permutations ---


@pytest.mark.parametrize("step", [1.0, 0.5, 0.1, 1 / 3])
def test_counting_every_sign_pattern_equals_a_brute_force(step: float) -> None:
    rng = np.random.default_rng(11)
    sums = rng.integers(-6, 7, 11) * step
    signs = np.array([[1 if (i >> j) & 1 else -1 for j in range(11)] for i in range(2**11)])
    totals, observed = np.abs(signs @ np.abs(sums)), abs(sums.sum())
    exact = ((totals > observed + 1e-9).sum() + 0.5 * (np.abs(totals - observed) <= 1e-9).sum()) / 2**11
    assert sign_flip(sums, resamples=9) == pytest.approx(exact)
