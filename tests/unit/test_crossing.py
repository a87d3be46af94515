"""Gains in pairs, and where they pass 1."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from hero_ray.stats.crossing import Gain, break_even, described, gain


def made(ratio: float, width: float = 1.1) -> Gain:
    return Gain(ratio, ratio / width, ratio * width, 5)


def test_a_gain_is_the_paired_t_interval_of_logarithms() -> None:
    base, other = [10.0, 12.0, 9.0, 11.0], [13.0, 14.5, 12.5, 12.0]
    logs = np.log(np.array(other) / np.array(base))
    low, high = scipy_stats.t.interval(0.95, 3, logs.mean(), logs.std(ddof=1) / 2)
    found = gain(base, other)
    assert (found.ratio, found.low, found.high) == pytest.approx(tuple(np.exp([logs.mean(), low, high])), rel=1e-12)
    assert (found.pairs, found.word) == (4, "pays")
    assert gain(other, base).word == "costs"
    assert gain([10, 12], [12, 10]).word == "within noise"
    assert gain([10], [12]).word == "unknown"
    for wrong in (([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0])):
        with pytest.raises(ValueError, match="above 0"):
            gain(*wrong)


def test_what_pairs_share_is_no_noise() -> None:
    """A slow round is slow for both; unpaired, a tenth more would drown in it."""
    weather = np.array([5.0, 20.0, 8.0, 30.0])
    assert gain(weather, weather * np.array([1.10, 1.11, 1.09, 1.10])).word == "pays"


def test_places_are_told_in_runs() -> None:
    gains = [made(1.5), made(1.3), made(1.05), made(0.7)]
    assert described([1, 8, 32, 64], gains) == "pays at 1 to 8, within noise at 32, costs at 64"


def test_break_even_lies_where_the_line_between_two_places_passes_one() -> None:
    at, low, high = break_even([8, 32], [made(1.5), made(1 / 1.5)])  # type: ignore[misc]
    assert at == pytest.approx(16, rel=0.01)
    half = np.log(1.1) / (2 * np.log(1.5)) * np.log(4)
    assert (low, high) == pytest.approx((16 * np.exp(-half), 16 * np.exp(half)), rel=0.01)
    at, low, high = break_even([1, 8, 32, 64], [made(0.5), made(0.98), made(1.02), made(2.0)])  # type: ignore[misc]
    assert 1 < low < 8 < at < 32 < high < 64


@pytest.mark.parametrize(
    "ratios",
    [(1.5, 1.4), (0.5, 0.4), (1.01, 0.99), (1.5, 1.01), (1.5, 0.5, 1.5)],
    ids=["pays", "costs", "noise", "fades", "twice"],
)
def test_where_nothing_is_shown_to_turn_there_is_none(ratios: tuple[float, ...]) -> None:
    assert break_even(range(1, len(ratios) + 1), [made(ratio) for ratio in ratios]) is None
