"""Evidence, bounds and intervals against plain accounts of their definitions: loops, scipy.stats, values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats

from hero_ray import stats
from hero_ray.stats.evidence import FIGURE, Evidence, influences, lower_bound, p_at_most, weigh, wilson
from hero_ray.stats.intervals import (
    share_bounds,
    summarise,
)
from hero_ray.stats.verdicts import judge, span_of

VALUES = [[1.0, 0.5, 1.0], [1.0], [0.0, 0.5], [1.0, 1.0, 1.0, 0.0], [0.25, 0.0]]
"""Values of five pictures."""


def flat(groups: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x for group in groups for x in group]), np.repeat(range(len(groups)), [len(g) for g in groups])


def of(groups: list[list[float]]) -> Evidence:
    values, codes = flat(groups)
    return summarise(values, codes, len(groups))


# --- moments ---


def test_moments_equal_their_sums() -> None:
    n = sum(map(len, VALUES))
    mean = sum(map(sum, VALUES)) / n
    moved = [(sum(group) - mean * len(group)) / n for group in VALUES]
    shares = [len(group) / n for group in VALUES]
    found = of(VALUES)
    assert float(found.value) == pytest.approx(mean)
    assert float(found.variance) == pytest.approx(sum(u**2 / (1 - s) for u, s in zip(moved, shares, strict=True)))
    assert float(found.third) == pytest.approx(-sum(u**3 for u in moved))
    assert float(found.unit) == pytest.approx(sum(s**2 for s in shares))
    assert float(found.top) == pytest.approx(sum(s**3 for s in shares) / sum(s**2 for s in shares))
    assert float(found.pieces) == pytest.approx(sum(u**2 for u in moved) ** 2 / sum(u**4 for u in moved))
    assert float(found.typical) == pytest.approx(sum(abs(u) ** 3 for u in moved) / sum(u**2 for u in moved))
    assert found.count == 5


def freedom(sizes: list[int], alike: float) -> float:
    """Bell and McCaffrey's degrees of freedom in matrices."""
    size = np.array(sizes, dtype=float)
    share, spread = size / size.sum(), size + alike * size * (size - 1)
    make = np.eye(size.size) - np.outer(share, np.ones(size.size))
    weight = np.diag(1 / np.sqrt(1 - share))
    q = weight @ make @ np.diag(spread) @ make.T @ weight
    return float(np.trace(q) ** 2 / np.trace(q @ q))


def test_degrees_of_freedom_follow_how_alike_questions_of_a_picture_are() -> None:
    values, _ = flat(VALUES)
    sizes = [len(group) for group in VALUES]
    residuals = [sum(group) - values.mean() * len(group) for group in VALUES]
    alike = (sum(r**2 for r in residuals) / values.var() - values.size) / sum(m * (m - 1) for m in sizes)
    assert 0 < alike < 1
    assert float(of(VALUES).df) == pytest.approx(freedom(sizes, alike))
    sums = [sum(group) for group in VALUES]
    assert float(weigh(sums, sizes).df) == pytest.approx(freedom(sizes, 1.0))
    for groups, known in (([[1.0, 0.0]] * 3 + [[0.0], [1.0]], 0.0), ([[1.0] * 4, [0.0] * 4, [0.5], [0.5]], 1.0)):
        assert float(of(groups).df) == pytest.approx(freedom([len(group) for group in groups], known))
    same = of([[1.0, 1.0], [1.0], [1.0, 1.0, 1.0]])
    assert float(same.df) == pytest.approx(freedom([2, 1, 3], 1.0))


def test_shares_alone_count_as_squares_and_dust_counts_as_nothing() -> None:
    found = influences(1.0, [0.1, -0.1, 1e-14], [0.5, 0.3, 0.2])
    share = np.array([0.5, 0.3, 0.2])
    make = np.eye(3) - np.outer(share, np.ones(3))
    weight = np.diag(1 / np.sqrt(1 - share))
    q = weight @ make @ np.diag(share**2) @ make.T @ weight
    assert float(found.df) == pytest.approx(max(1.0, np.trace(q) ** 2 / np.trace(q @ q)))
    assert float(found.variance) == pytest.approx(0.01 / 0.5 + 0.01 / 0.7)
    nothing = influences(1000.0, [1e-11, -1e-11], [0.5, 0.5])
    assert (float(nothing.variance), float(nothing.pieces), float(nothing.typical)) == (0.0, 0.0, 0.0)
    assert float(influences(0.5, [1e-11, -1e-11], [0.5, 0.5]).variance) > 0


def test_evidence_can_be_mirrored_and_shifted() -> None:
    found = of(VALUES)
    mirrored, shifted = found.mirrored, found.plus(0.25)
    assert (float(mirrored.value), float(mirrored.third)) == (-float(found.value), -float(found.third))
    assert float(shifted.value) == pytest.approx(float(found.value) + 0.25)
    assert (shifted.variance, mirrored.unit, shifted.count) == (found.variance, found.unit, 5)


def test_wilsons_bounds_stay_on_the_scale() -> None:
    assert wilson(0.0, 10, 2.0) == (0.0, pytest.approx(4 / 14))
    assert wilson(1.0, 10, 2.0) == (pytest.approx(10 / 14), 1.0)


# --- p values and bounds ---


def tails(e: Evidence, span: float, weight: float, prior: float, strict: bool) -> tuple[float, float, object]:
    """What the picture that was not seen costs, the standard error with it, and the gamma law of the loss."""
    unit, top, pieces, typical = (float(x) for x in (e.unit, e.top, e.pieces, e.typical))
    start = top if strict else unit
    size = (prior * start * span + pieces * min(typical, top * span)) / (prior + pieces)
    lost = weight * (size if strict else min(size, start * span))
    variance, third = float(e.variance) + lost**2, float(e.third) + lost**3
    third = max(third, 1e-9 * variance**1.5)
    shape = min(variance**3 / third**2, 1e8)
    scale = math.sqrt(variance / shape)
    return lost, math.sqrt(variance), scipy_stats.gamma(shape, loc=lost - shape * scale, scale=scale)


def p_reference(e: Evidence, bound: float, span: float) -> float:
    gap = float(e.value) - bound
    if float(e.variance) == 0 and gap > 0:
        return max(0.0, 1 - gap / span) ** (1 / float(e.top))
    lost, spread, gamma = tails(e, span, 1.0, 4.0, True)
    shrink = 1 / (1 + float(e.unit))
    student = scipy_stats.t.sf((gap - shrink * lost) / (shrink * spread), float(e.df))
    tail = max(float(student), float(gamma.sf(max(gap, gamma.support()[0]))))  # type: ignore[attr-defined]
    if gap <= 0:
        return max(tail, 0.5)
    return max(tail, max(0.0, 1 - gap / span) ** (1 / float(e.unit)))


def low_reference(e: Evidence, alpha: float, span: float, share: bool) -> float:
    """For intervals of figures: half a picture more, at most as large as a typical one."""
    value, unit, pieces = float(e.value), float(e.unit), float(e.pieces)
    rule = span * (1 - alpha**unit)
    if float(e.variance) == 0:
        return value - rule
    lost, spread, gamma = tails(e, span, 0.5, 0.5, False)
    shrink = 1 / (1 + unit)
    quantile = float(scipy_stats.t.ppf(1 - alpha, float(e.df)))
    student = value - shrink * lost - quantile * shrink * spread
    if share:
        centre = min(1.0, max(0.0, value - shrink * lost))
        n = centre * (1 - centre) / (shrink * spread) ** 2
        student = optimize.brentq(lambda x: (centre - x) - quantile * math.sqrt(x * (1 - x) / n), 1e-12, centre)
    poisson = value - float(gamma.ppf(1 - alpha))  # type: ignore[attr-defined]
    least = rule * min(1.0, 2 / (1 + pieces)) - 2 * pieces * float(e.typical)
    return min(student, poisson, value - least)


def designs() -> list[tuple[str, Evidence, float]]:
    rng = np.random.default_rng(17)
    found = [("five pictures", of(VALUES), 1.0), ("twice the span", of(VALUES), 2.0)]
    for name, each, lost, won in (("losses", 1, 0.03, 0.0), ("both", 1, 0.1, 0.08), ("many", 6, 0.02, 0.02)):
        sizes = rng.integers(1, each + 1, 120)
        groups = [rng.choice([-1.0, 0.0, 1.0], m, p=[lost, 1 - lost - won, won]).tolist() for m in sizes]
        found.append((name, of(groups), 1.0))
    found.append(("gains only", of([[1.0]] * 4 + [[0.0]] * 60), 1.0))
    found.append(("one large picture differs", of([[-1.0] * 9, *([[0.0]] * 40)]), 1.0))
    found.append(("alike", of([[0.2]] * 30 + [[0.2, 0.2]] * 9), 1.0))
    return found


DESIGNS = {name: (evidence, span) for name, evidence, span in designs()}


@pytest.mark.parametrize("name", DESIGNS)
def test_p_is_the_most_cautious_of_three_tails(name: str) -> None:
    evidence, span = DESIGNS[name]
    value = float(evidence.value)
    for gap in (-0.05, 0.0, 0.005, 0.02, 0.06, 0.15, 0.6):
        expected = p_reference(evidence, value - gap, span)
        assert float(p_at_most(evidence, value - gap, span)) == pytest.approx(expected, rel=1e-6, abs=1e-12), gap


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_a_lower_bound_is_where_p_is_alpha(name: str, alpha: float) -> None:
    evidence, span = DESIGNS[name]
    bound = float(lower_bound(evidence, alpha, span))
    assert float(p_at_most(evidence, bound, span)) == pytest.approx(alpha, rel=1e-5)
    assert bound < float(evidence.value)


@pytest.mark.parametrize("name", DESIGNS)
def test_bounds_of_figures_equal_a_plain_account(name: str) -> None:
    evidence, span = DESIGNS[name]
    assert float(lower_bound(evidence, 0.025, span, FIGURE)) == pytest.approx(
        low_reference(evidence, 0.025, span, share=False), rel=1e-6
    )


@pytest.mark.parametrize("wrong", [1, 3, 20, 60, 95])
def test_bounds_of_shares_equal_a_plain_account(wrong: int) -> None:
    groups = [[0.0]] * wrong + [[1.0]] * (70 - wrong if wrong < 70 else 5) + [[1.0, 0.0]] * 4
    evidence = of(groups)
    value = float(evidence.value)
    low = low_reference(evidence, 0.025, value, share=True)
    assert float(lower_bound(evidence, 0.025, value, FIGURE, share=True)) == pytest.approx(low, rel=1e-6)
    rule = 1 - 0.025 ** (1 / len(groups))
    high = 1 - low_reference(of([[1 - x for x in group] for group in groups]), 0.025, 1 - value, share=True)
    expected = (max(0.0, min(low, 1 - rule)), min(1.0, max(high, rule)))
    assert tuple(map(float, share_bounds(evidence, 0.025))) == pytest.approx(expected, rel=1e-6)
    found = stats.mean_interval(*flat(groups))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6)
    assert (found.kind, found.value, found.n) == ("cluster-wilson", pytest.approx(value), sum(map(len, groups)))
    assert found.se == pytest.approx(math.sqrt(float(evidence.variance)))


# --- verdicts ---


def test_a_score_moves_by_its_scale_or_by_more_where_more_was_seen() -> None:
    assert span_of(np.array([0.2, 0.9])) == 1.0
    assert span_of(np.array([-3.0, 4.0])) == 3.5


@pytest.mark.parametrize("level", [0.8, 0.4])
def test_a_judgement_is_both_tests_and_both_bounds(level: float) -> None:
    evidence, span = DESIGNS["both"]
    found = judge(evidence, 120, level, span, n_differing=7)
    assert found.p_claim == pytest.approx(p_reference(evidence, 0.0, span))
    assert found.p_against == pytest.approx(p_reference(evidence.mirrored, 0.0, span))
    assert (found.value, found.n, found.n_clusters, found.n_differing) == (float(evidence.value), 120, 120, 7)
    assert found.low is not None
    assert found.high is not None
    assert float(p_at_most(evidence, found.low, span)) == pytest.approx((1 - level) / 2, rel=1e-5)
    assert float(p_at_most(evidence.mirrored, -found.high, span)) == pytest.approx((1 - level) / 2, rel=1e-5)


def test_verdicts_have_one_sided_errors_of_5_percent_unless_told() -> None:
    values, codes = np.tile([0.0, 0.0, -1.0, 1.0, 0.0], 20), np.arange(100) // 2
    for found in (
        stats.one_sided(values, codes),
        stats.non_inferiority(values, np.zeros(100), 0.0, codes),
        judge(summarise(values, codes, 50), 100),
    ):
        assert found.low is not None
        assert float(p_at_most(summarise(values, codes, 50), found.low)) == pytest.approx(0.05, rel=1e-5)
        assert (found.n, found.n_clusters) == (100, 50)
    wide = stats.one_sided(3 * values, codes)  # differences of up to 3 may move by 3
    assert wide.low is not None
    assert float(p_at_most(summarise(3 * values, codes, 50), wide.low, 3.0)) == pytest.approx(0.05, rel=1e-5)


def test_pictures_that_differ_are_counted_once_each() -> None:
    found = stats.non_inferiority([1, 1, 0, 1], [0, 0, 0, 1], 0.1, ["a", "a", "b", "c"])
    assert (found.n_differing, found.n, found.n_clusters) == (1, 4, 3)
    assert found.value == pytest.approx(0.6)
    dust = stats.non_inferiority([1, 1 + 1e-13], [1, 1], 0.1)
    assert dust.n_differing == 0


def test_a_single_picture_decides_nothing() -> None:
    single = stats.non_inferiority([1, 0], [1, 1], 0.1, ["a", "a"])
    assert (single.value, single.low, single.high) == (pytest.approx(-0.4), None, None)
    assert (single.p_claim, single.p_against, single.n, single.n_clusters, single.n_differing) == (1.0, 1.0, 2, 1, 1)
    mean = stats.one_sided([0.5, 1.0], ["a", "a"])
    assert (mean.value, mean.low, mean.p_claim, mean.p_against, mean.n_clusters) == (0.75, None, 1.0, 1.0, 1)
    figure = stats.decide(0.3, 0.1, 1, 5)
    assert (figure.value, figure.low, figure.high, figure.n, figure.n_clusters) == (0.3, None, None, 5, 1)
    assert (figure.p_claim, figure.p_against) == (1.0, 1.0)


def test_two_pictures_decide_little_but_have_bounds() -> None:
    for found in (stats.one_sided([0.0, 1.0]), stats.decide(0.1, 0.1, 2, 2), stats.non_inferiority([0, 1], [1, 1], 0)):
        assert found.low is not None
        assert found.low < found.value


def test_scores_that_cannot_be_paired_are_refused() -> None:
    for a, b in (([1, 0], [1]), ([], [])):
        with pytest.raises(ValueError, match=f"got {len(a)} and {len(b)}"):
            stats.non_inferiority(a, b, 0.1)


def test_a_figure_with_an_error_only_is_judged_by_t_and_one_picture_more() -> None:
    found = stats.decide(0.06, 0.02, 40, 90, level=0.9)
    lost = 1 / 40  # the unseen picture, all that four starting pictures weigh
    t = (0.06 - lost / (1 + 1 / 40)) / (math.hypot(0.02, lost) / (1 + 1 / 40))
    assert found.p_claim >= float(scipy_stats.t.sf(t, 39)) - 1e-9
    shape = math.hypot(0.02, lost) ** 6 / lost**6
    scale = math.hypot(0.02, lost) / math.sqrt(shape)
    tail = float(scipy_stats.gamma.sf(0.06 - lost + shape * scale, shape, scale=scale))
    assert found.p_claim == pytest.approx(max(tail, float(scipy_stats.t.sf(t, 39)), 0.94**40))
    assert (found.n, found.n_clusters) == (90, 40)
    wide = stats.decide(0.06, 0.02, 40, 90, span=3.0)
    assert (wide.low or 0) < (found.low or 0) < 0


def test_what_was_seen_is_rounded_to_what_it_is_worth() -> None:
    made = stats.OneSided(0.0, -0.02, 0.1, 0.2, 0.9, 50, 40, 3)
    assert stats.seen(made, 0.03) == "3 of 40 pictures differ; a loss up to 5.0 points is not excluded"
    assert stats.seen(made, 0.08) == "3 of 40 pictures differ; a loss up to 10 points is not excluded"
    assert stats.seen(made, -0.05) == "3 of 40 pictures differ; a loss up to 0.0 points is not excluded"
    assert stats.seen(stats.OneSided(0.0, -0.1, 0.1, 0.2, 0.9, 50, 40), 0.03) == ""
    assert stats.seen(stats.OneSided(0.0, None, None, 1.0, 1.0, 2, 1), 0.03) == "1 pictures decide nothing"
