"""Do the statistics keep their promises? Seeded simulations with questions that share pictures."""

from __future__ import annotations

import numpy as np
import pytest

from hero_ray import stats

pytestmark = pytest.mark.slow
Array = np.ndarray


def answers(rng: np.random.Generator, share: float, pictures: int, each: int, alike: float) -> Array:
    """0/1 answers [pictures, each] whose chance varies between pictures (`alike`: intra-picture correlation)."""
    if alike == 0:
        chance = np.full(pictures, share)
    else:
        weight = (1 - alike) / alike
        chance = rng.beta(share * weight, (1 - share) * weight, pictures)
    return (rng.random((pictures, each)) < chance[:, None]).astype(float)


@pytest.mark.parametrize(("each", "pictures"), [(1, 150), (2, 120), (18, 80)])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_intervals_cover_as_often_as_they_say(each: int, pictures: int, share: float) -> None:
    rng = np.random.default_rng([each, int(100 * share)])
    clusters = np.repeat(np.arange(pictures), each)
    covered = 0
    for _ in range(2000):
        found = stats.mean_interval(answers(rng, share, pictures, each, 0.0 if each == 1 else 0.3).ravel(), clusters)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= share <= found.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_ignoring_pictures_would_break_that_promise() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(500):
        found = stats.mean_interval(answers(rng, 0.5, 80, 18, 0.3).ravel())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.5 <= found.high
    assert covered / 500 < 0.75


@pytest.mark.parametrize(("each", "pictures"), [(1, 2000), (2, 300), (18, 60)])
def test_equal_methods_are_told_apart_as_rarely_as_promised(each: int, pictures: int) -> None:
    rng = np.random.default_rng(each + 90)
    clusters = np.repeat(np.arange(pictures), each)
    rejected = 0
    for seed in range(2500):
        chance = rng.beta(2, 1, pictures)[:, None]
        a, b = ((rng.random((pictures, each)) < chance).astype(float).ravel() for _ in range(2))
        rejected += stats.paired(a, b, clusters, resamples=999, seed=seed).p_value < 0.05
    assert 0.04 <= rejected / 2500 <= 0.06


@pytest.mark.parametrize("each", [1, 4])
def test_planted_effects_are_found_with_the_predicted_power(each: int) -> None:
    rng = np.random.default_rng(each + 7)
    pictures, effect = 600 // each, 0.06
    clusters = np.repeat(np.arange(pictures), each)
    found, errors = 0, []
    for seed in range(800):
        chance = rng.beta(4, 2, pictures)[:, None] * (1 - effect)
        a = (rng.random((pictures, each)) < chance + effect).astype(float).ravel()
        b = (rng.random((pictures, each)) < chance).astype(float).ravel()
        result = stats.paired(a, b, clusters, resamples=499, seed=seed)
        found += result.p_value < 0.05
        errors.append(result.se)
    assert found / 800 == pytest.approx(stats.predicted_power(effect, float(np.mean(errors))), abs=0.05)


def test_holm_controls_the_family_and_uncorrected_tests_do_not() -> None:
    rng = np.random.default_rng(3)
    corrected = plain = 0
    for seed in range(600):
        reference = (rng.random(300) < 0.7).astype(float)
        clusters = np.repeat(np.arange(100), 3)
        others = [(rng.random(300) < 0.7).astype(float) for _ in range(8)]
        p = [stats.paired(o, reference, clusters, resamples=499, seed=seed).p_value for o in others]
        corrected += bool((stats.holm(p) < 0.05).any())
        plain += min(p) < 0.05
    assert corrected / 600 <= 0.06
    assert plain / 600 > 0.15


def test_retention_averages_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(12)
    truth = np.mean([0.9, 0.8])
    covered = 0
    for _ in range(1000):
        parts = {}
        for kept in (0.9, 0.8):
            full = answers(rng, 0.8, 100, 3, 0.2).ravel()
            scores = full * (rng.random(300) < kept)
            parts[str(kept)] = stats.Part(scores, full, [f"{kept}-{i // 3}" for i in range(300)])
        found = stats.retention_average(parts)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_bootstrapped_composites_cover_as_often_as_they_say() -> None:
    """F1 of 0/1 answers in pairs per picture: no mean, so only the bootstrap knows its error."""
    rng = np.random.default_rng(21)

    def f1(rows: list[tuple[float, float]]) -> float:
        told, truth = np.array(rows).T
        hits = float((told * truth).sum())
        return 2 * hits / max(1.0, float(told.sum() + truth.sum()))

    def draw(pictures: int) -> tuple[list[tuple[float, float]], list[int]]:
        truth = (rng.random(2 * pictures) < 0.5).astype(float)
        right = answers(rng, 0.8, pictures, 2, 0.3).ravel()
        return list(zip(np.where(right > 0, truth, 1 - truth), truth, strict=True)), [
            i // 2 for i in range(2 * pictures)
        ]

    expected = f1(draw(200_000)[0])
    covered = 0
    for seed in range(400):
        rows, clusters = draw(120)
        found = stats.composite_interval(f1, rows, clusters, resamples=300, seed=seed)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= expected <= found.high
    assert 0.92 <= covered / 400 <= 0.98
