"""Retention averages, their differences and the difficulty split against plain accounts of their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from hero_ray import stats
from hero_ray.stats.evidence import FIGURE, Evidence, influences, lower_bound
from hero_ray.stats.verdicts import judge

FULL_X, KEPT_X, OF_X = [1.0, 1.0, 0.0, 1.0, 1.0, 0.5], [1.0, 0.0, 0.0, 1.0, 0.5, 0.5], list("aabbcd")
FULL_Y, KEPT_Y, OF_Y = [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0], list("adee")
X, Y = stats.Part(KEPT_X, FULL_X, OF_X), stats.Part(KEPT_Y, FULL_Y, OF_Y)

Moves = dict[str, tuple[float, float]]
"""By picture: how far it moves the figure, and its share of it."""


def add(*several: Moves) -> Moves:
    total: Moves = {}
    for moves in several:
        for picture, (moved, share) in moves.items():
            before = total.get(picture, (0.0, 0.0))
            total[picture] = (before[0] + moved, before[1] + share)
    return total


def scaled(moves: Moves, factor: float, weight: float) -> Moves:
    return {picture: (factor * moved, weight * share) for picture, (moved, share) in moves.items()}


def ratio(kept: Sequence[float], full: Sequence[float], pictures: Sequence[str]) -> tuple[float, Moves]:
    """Share kept, and what leaving its line says of each picture: (kept - ratio * full) / all that full scores."""
    value = sum(kept) / sum(full)
    lines = zip(kept, full, pictures, strict=True)
    return value, add(*({p: ((k - value * f) / sum(full), f / sum(full))} for k, f, p in lines))


def evidence(value: float, moves: Moves) -> Evidence:
    shares = np.array([share for _, share in moves.values()])
    return influences(value, [moved for moved, _ in moves.values()], shares / shares.sum())


def averaged() -> tuple[float, Moves]:
    (x, of_x), (y, of_y) = ratio(KEPT_X, FULL_X, OF_X), ratio(KEPT_Y, FULL_Y, OF_Y)
    return (x + y) / 2, add(scaled(of_x, 0.5, 0.5), scaled(of_y, 0.5, 0.5))


def same(found: stats.OneSided, expected: stats.OneSided) -> bool:
    fields = ("value", "low", "high", "p_claim", "p_against", "n", "n_clusters")
    return [getattr(found, f) for f in fields] == pytest.approx([getattr(expected, f) for f in fields])


@pytest.mark.parametrize("level", [0.95, 0.4])
def test_an_average_moves_with_its_pictures_wherever_they_occur(level: float) -> None:
    value, moves = averaged()
    made = evidence(value, moves)
    found = stats.retention_average({"x": X, "y": Y}, level)
    assert (found.value, found.n, found.n_clusters) == (pytest.approx(value), 10, 5)
    assert found.se == pytest.approx(math.sqrt(float(made.variance)))
    low = float(lower_bound(made, (1 - level) / 2, max(1.0, value), FIGURE))
    high = -float(lower_bound(made.mirrored, (1 - level) / 2, max(1.0, value), FIGURE))
    assert (found.low, found.high) == (pytest.approx(max(0.0, low)), pytest.approx(high))
    assert (found.kind, found.never_varies, found.one_sided) == ("cluster-t", False, False)


def test_a_method_that_gains_may_lose_all_it_has() -> None:
    gained = stats.retention_average({"x": stats.Part([3.0, 2.0, 3.0, 2.0], [1.0] * 4)})
    made = evidence(*ratio([3.0, 2.0, 3.0, 2.0], [1.0] * 4, list("abcd")))
    assert gained.low == pytest.approx(max(0.0, float(lower_bound(made, 0.025, 2.5, FIGURE))))
    assert gained.high == pytest.approx(-float(lower_bound(made.mirrored, 0.025, 2.5, FIGURE)))


def test_one_picture_keeps_no_interval_and_two_do() -> None:
    single = stats.retention_average({"x": stats.Part([1.0, 0.0], [1.0, 1.0], ["a", "a"])})
    assert (single.value, single.low, single.high, single.kind) == (0.5, None, None, "none")
    assert (single.n, single.n_clusters, math.isnan(single.se), single.never_varies) == (2, 1, True, False)
    assert stats.retention_average({"x": stats.Part([1.0, 0.0], [1.0, 1.0])}).high is not None
    none = stats.pooled_difference({"x": stats.Part([1.0, 0.0], [1.0, 1.0], ["a", "a"])})
    assert (none.low, none.p_claim, none.p_against, none.n, none.n_clusters) == (None, 1.0, 1.0, 2, 1)
    assert stats.pooled_difference({"x": stats.Part([1.0, 0.0], [1.0, 1.0])}).low is not None


def test_a_difference_of_averages_pairs_pictures() -> None:
    (x, of_x), (y, of_y) = ratio(KEPT_X, FULL_X, OF_X), ratio(FULL_X, FULL_X, OF_X)
    for share, offset, sign, level in ((1.0, 0.0, 1.0, 0.9), (0.9, -0.05, 1.0, 0.9), (0.8, 0.1, -1.0, 0.4)):
        moves = add(of_x, scaled(of_y, -share, 1.0))
        expected = judge(evidence(sign * (x - share * y - offset), scaled(moves, sign, 1.0)), 6, level)
        rival = {"x": stats.Part(FULL_X, FULL_X, OF_X)}
        assert same(stats.retention_difference({"x": X}, rival, share, level, offset, sign), expected)
    usual = stats.retention_difference({"x": X}, {"x": stats.Part(FULL_X, FULL_X, OF_X)})
    assert same(usual, judge(evidence(x - y, add(of_x, scaled(of_y, -1.0, 1.0))), 6, 0.9))


def test_pictures_of_the_rival_alone_count_too() -> None:
    found = stats.retention_difference({"x": X}, {"y": Y}, 0.5)
    (x, of_x), (y, of_y) = ratio(KEPT_X, FULL_X, OF_X), ratio(KEPT_Y, FULL_Y, OF_Y)
    assert same(found, judge(evidence(x - 0.5 * y, add(of_x, scaled(of_y, -0.5, 1.0))), 6, 0.9))


def difference(a: Sequence[float], b: Sequence[float], pictures: Sequence[str]) -> tuple[float, Moves]:
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    mean, n = sum(gaps) / len(gaps), len(gaps)
    return mean, add(*({p: ((gap - mean) / n, 1 / n)} for gap, p in zip(gaps, pictures, strict=True)))


@pytest.mark.parametrize("level", [0.9, 0.4])
def test_a_pooled_difference_is_the_mean_over_benchmarks(level: float) -> None:
    (x, of_x), (y, of_y) = difference(KEPT_X, FULL_X, OF_X), difference(KEPT_Y, FULL_Y, OF_Y)
    expected = judge(evidence((x + y) / 2, add(scaled(of_x, 0.5, 0.5), scaled(of_y, 0.5, 0.5))), 10, level)
    assert same(stats.pooled_difference({"x": X, "y": Y}, level), expected)


def test_samples_without_a_picture_are_their_own_in_each_benchmark() -> None:
    found = stats.pooled_difference({name: stats.Part([1.0, 0.0, 1.0], [1.0, 1.0, 1.0]) for name in "xy"})
    assert (found.n, found.n_clusters) == (6, 6)


def test_averages_of_nothing_are_refused() -> None:
    for call in (stats.retention_average, stats.pooled_difference):
        with pytest.raises(ValueError, match="at least one"):
            call({})
    for part in (stats.Part([], []), stats.Part([1.0], [0.0]), stats.Part([1.0], [-1.0])):
        with pytest.raises(ValueError, match="scores nothing on x"):
            stats.retention_average({"x": part})
    with pytest.raises(ValueError, match="scores nothing on x"):
        stats.retention_average({"x": stats.CompositePart(sum, [1.0, 1.0], [0.0, 0.0], ["a", "b"])})
    with pytest.raises(ValueError, match="scores nothing on x"):  # without the first picture
        stats.retention_average({"x": stats.CompositePart(sum, [1.0, 1.0], [1.0, 0.0], ["a", "b"])})


# --- composites ---


def squared(answers: Sequence[float]) -> float:
    """A figure that is no mean."""
    return float(sum(answers) ** 2) / 10


def left_out(figure: Callable[[list[int]], float], groups: Mapping[str, list[int]]) -> tuple[float, Moves]:
    """Jackknife: (value - value without a group) * (G - 1) / G, and the group's share of the samples."""
    everything = sorted(i for members in groups.values() for i in members)
    value, n = figure(everything), len(groups)
    moves = {}
    for name, members in groups.items():
        rest = [i for i in everything if i not in members]
        moves[name] = ((value - figure(rest)) * (n - 1) / n, len(members) / len(everything))
    return value, moves


def test_a_composites_ratio_leaves_out_picture_by_picture() -> None:
    part = stats.CompositePart(squared, KEPT_X, FULL_X, OF_X)
    value, moves = left_out(
        lambda chosen: squared([KEPT_X[i] for i in chosen]) / squared([FULL_X[i] for i in chosen]),
        {"a": [0, 1], "b": [2, 3], "c": [4], "d": [5]},
    )
    found, made = stats.retention_average({"x": part}), evidence(value, moves)
    assert (found.value, found.n, found.n_clusters) == (pytest.approx(value), 6, 4)
    assert found.se == pytest.approx(math.sqrt(float(made.variance)))


def test_a_composites_difference_is_in_shares_of_its_scale() -> None:
    part = stats.CompositePart(squared, KEPT_X, FULL_X, OF_X, scale=4.0)
    value, moves = left_out(
        lambda chosen: (squared([KEPT_X[i] for i in chosen]) - squared([FULL_X[i] for i in chosen])) / 4,
        {"a": [0, 1], "b": [2, 3], "c": [4], "d": [5]},
    )
    assert same(stats.pooled_difference({"x": part}), judge(evidence(value, moves), 6, 0.9))
    plain, of_y = difference(KEPT_Y, FULL_Y, OF_Y)
    mixed = add(scaled(moves, 0.5, 0.5), scaled(of_y, 0.5, 0.5))
    expected = judge(evidence((value + plain) / 2, mixed), 10, 0.9)
    assert same(stats.pooled_difference({"x": part, "y": Y}), expected)


def test_many_pictures_are_left_out_in_fifty_groups_dealt_in_turn() -> None:
    full = [1.0] * 120
    kept = [float(i % 7 > 1) for i in range(120)]
    pictures = [str(i) for i in range(120)]
    value, moves = left_out(
        lambda chosen: squared([kept[i] for i in chosen]) / squared([full[i] for i in chosen]),
        {str(g): list(range(g, 120, 50)) for g in range(50)},
    )
    found, made = (
        stats.retention_average({"x": stats.CompositePart(squared, kept, full, pictures)}),
        evidence(value, moves),
    )
    assert (found.n_clusters, found.se) == (50, pytest.approx(math.sqrt(float(made.variance))))


def test_a_composite_on_one_picture_has_a_figure_and_no_error() -> None:
    found = stats.retention_average({"x": stats.CompositePart(squared, [1.0, 0.0], [1.0, 1.0], ["a", "a"])})
    assert (found.value, found.low, found.high) == (0.25, None, None)


# --- easy and hard samples ---


def test_a_sample_is_simple_from_the_threshold_on() -> None:
    scores, cheap, pictures = [1.0, 0.0, 1.0, 1.0, 0.0], [0.5, 0.49, 1.0, 0.0, 0.7], list("aabcd")
    split = stats.difficulty_split(scores, cheap, pictures)
    assert split.simple == stats.mean_interval([1.0, 1.0, 0.0], list("abd"))
    assert split.difficult == stats.mean_interval([0.0, 1.0], list("ac"))
    strict = stats.difficulty_split(scores, cheap, pictures, threshold=0.8, level=0.4)
    assert strict.simple == stats.mean_interval([1.0], ["b"], 0.4)
    assert strict.difficult == stats.mean_interval([1.0, 0.0, 1.0, 0.0], list("aacd"), 0.4)
    alone = stats.difficulty_split([1.0, 0.0], [0.0, 0.0])
    assert alone.simple is None
    assert alone.difficult == stats.mean_interval([1.0, 0.0])
