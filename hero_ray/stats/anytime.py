"""Evidence that holds at every moment at once, so that looking early costs nothing.

A bettor starts with 1 and bets on every picture against "A loses `margin` or more". While that is true the wealth is a
supermartingale, and the chance that it ever exceeds 1 / alpha is at most alpha (Ville); wealth is an e-value. The bets
are those of Waudby-Smith and Ramdas (2024, "Estimating means of bounded random variables by betting", section 5.3):
mean over second moment of what came before, kept within bounds.

The confidence sequence is the same paper's predictable plug-in empirical-Bernstein sequence (section 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hero_ray.stats.evidence import Floats

MAX_BET = 0.5
MOST_OF_WEALTH = 0.97
"""Share of the wealth that the worst picture may cost."""


def log_wealth(sums: ArrayLike, sizes: ArrayLike, margin: float, largest: float, above: bool = True) -> Floats:
    """Logarithm of the wealth after each picture: [..., T].

    What is tested is sum(sums) / sum(sizes) over all pictures, the mean over *questions* that tables print, from
    pictures that come in random order. One picture may then move the wealth by as much as the `largest` one can, so
    uneven pictures are expensive: with 1 to 50 questions each, hardly anything is decided early. Passing picture means
    with `sizes` of 1 and `largest` 1 tests the mean over *pictures* instead, which is cheap and another quantity
    unless all pictures have equally many questions.

    Args:
        sums: per picture, in order of arrival, the sum of A - B over its questions, each within [-1, 1]: [..., T].
        sizes: questions of each picture: [..., T].
        margin: in score units, 0 to 1.
        largest: most questions that a picture of this benchmark can have; known from the plan, before any answer.
        above: bet against "A - B is at most -margin"; else against "at least -margin".

    Raises:
        ValueError: a picture larger than `largest`, or a difference beyond 1 per question.
    """
    total = np.asarray(sums, dtype=float)
    size = np.broadcast_to(np.asarray(sizes, dtype=float), total.shape)
    if size.size and (size.max() > largest or np.any(np.abs(total) > size + 1e-9)):
        raise ValueError(f"expected at most {largest:g} questions a picture and differences within 1 for each")
    won = (total + margin * size) / largest * (1.0 if above else -1.0)
    before = np.arange(total.shape[-1])
    first = np.concatenate([np.zeros((*total.shape[:-1], 1)), np.cumsum(won, axis=-1)[..., :-1]], axis=-1)
    second = np.concatenate([np.zeros((*total.shape[:-1], 1)), np.cumsum(won**2, axis=-1)[..., :-1]], axis=-1)
    guess, weight = (margin, 1.0) if above else (0.1, 2.0)  # before any picture; matters for the first few only
    mean = (weight * guess + first) / (before + weight)
    variance = (0.05 * weight + second) / (before + weight)
    worst = 1 - margin if above else 1 + margin
    bets = np.clip(mean / (variance + mean**2), 0.0, MOST_OF_WEALTH / worst)
    return np.asarray(np.cumsum(np.log1p(bets * won), axis=-1), dtype=float)


@dataclass(frozen=True)
class Stop:
    """The first moment at which a comparison is decided.

    Attributes:
        verdict: `within` (A loses less than the margin), `worse` (more), or `undecided`.
        pictures: how many it took; all of them if undecided.
        log_within, log_worse: logarithms of both e-values at that moment.
    """

    verdict: str
    pictures: int
    log_within: float
    log_worse: float


def first_decision(
    sums: ArrayLike,
    sizes: ArrayLike,
    margin: float,
    largest: float,
    family: int = 1,
    alpha: float = 0.05,
) -> Stop:
    """Decide A against B as early as the evidence allows, looking after every picture.

    A pure function of the pictures in order: run again on more of them it never takes a decision back. A margin of 0
    asks which of the two is better: `within` then means that A is.

    Args:
        sums, sizes, margin, largest: as in `log_wealth`, for one comparison: [T].
        family: comparisons among which not one may be wrong with more than `alpha`. One of a comparison's two claims
            is true, so it counts once.
    """
    within = log_wealth(sums, sizes, margin, largest)
    worse = log_wealth(sums, sizes, margin, largest, above=False)
    limit = math.log(family / alpha)
    hits = np.flatnonzero((within > limit) | (worse > limit))
    if not within.size:
        return Stop("undecided", 0, 0.0, 0.0)
    at = int(hits[0]) if hits.size else within.size - 1
    verdict = "undecided" if not hits.size else "within" if within[at] > limit else "worse"
    return Stop(verdict, at + 1, float(within[at]), float(worse[at]))


def confidence_sequence(
    values: ArrayLike, alpha: float = 0.05, low: float = -1.0, high: float = 1.0
) -> tuple[float, float]:
    """Bounds of the mean after the last value; valid however often it was looked at before.

    Args:
        values: observations in the order in which they came, each in [low, high].
        alpha: chance that the bounds ever miss the mean.

    Returns:
        The running intersection of all intervals so far; (low, high) for no values.

    Raises:
        ValueError: a value out of range.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        return low, high
    if not np.all((x >= low - 1e-9) & (x <= high + 1e-9)):
        raise ValueError(f"values must lie in [{low}, {high}], got [{x.min()}, {x.max()}]")
    unit = np.clip((x - low) / (high - low), 0.0, 1.0)
    t = np.arange(1, unit.size + 1)
    means = (0.5 + np.cumsum(unit)) / (t + 1)
    variances = (0.25 + np.cumsum((unit - means) ** 2)) / (t + 1)
    before_mean = np.concatenate([[0.5], means[:-1]])
    before_variance = np.concatenate([[0.25], variances[:-1]])
    log_term = math.log(2 / alpha)
    bets = np.minimum(np.sqrt(2 * log_term / (before_variance * t * np.log1p(t))), MAX_BET)
    penalties = (unit - before_mean) ** 2 * (-np.log1p(-bets) - bets)
    weight = np.cumsum(bets)
    centre = np.cumsum(bets * unit) / weight
    half = (log_term + np.cumsum(penalties)) / weight
    bottom = float(np.clip(centre - half, 0.0, 1.0).max())
    top = float(np.clip(centre + half, 0.0, 1.0).min())
    return low + bottom * (high - low), low + top * (high - low)
