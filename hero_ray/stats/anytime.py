"""Evidence that holds at every moment at once, so that looking early costs nothing.

A bettor starts with 1 and bets on every picture against "A loses `margin` or more". While that is true the wealth is a
supermartingale, and the chance that it ever exceeds 1 / alpha is at most alpha (Ville); wealth is an e-value
(Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"). The bettor splits its wealth
over a few fixed bets, as Cover's universal portfolio does: bets that follow mean over variance of what came before
stake too much where losses are rare and large, and need up to twice the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike

from hero_ray.stats.evidence import Floats
from hero_ray.stats.verdicts import OneSided

GRID = 0.005
"""Step between the means that are tried for a bound."""
BETS = {
    True: ((0.97, 0.5), (0.55, 0.2), (0.25, 0.15), (0.1, 0.15)),
    False: ((0.97, 0.75), (0.4, 0.15), (0.15, 0.1)),
}
"""For and against A: (share of a bettor's wealth that the worst picture costs, share of all wealth that bets so). What
is worse is mostly much worse, so most is staked high there."""


def log_wealth(
    sums: ArrayLike,
    sizes: ArrayLike,
    margin: ArrayLike,
    largest: float,
    above: bool = True,
    ends: tuple[float, float] = (-1.0, 1.0),
) -> Floats:
    """Logarithm of the wealth after each picture: [..., T].

    What is tested is sum(sums) / sum(sizes) over all pictures, the mean over *questions* that tables print, from
    pictures that come in random order. One picture may then move the wealth by as much as the `largest` one can, so
    uneven pictures are expensive: with 1 to 50 questions each, hardly anything is decided early. Passing picture means
    with `sizes` of 1 and `largest` 1 tests the mean over *pictures* instead, which is cheap and another quantity
    unless all pictures have equally many questions.

    Args:
        sums: per picture, in order of arrival, the sum of A - B over its questions, each within [-1, 1]: [..., T].
        sizes: questions of each picture: [..., T].
        margin: in score units, -1 to 1; several are tried at once if it has axes of its own in front: [M, 1].
        largest: most questions that a picture of this benchmark can have; known from the plan, before any answer.
        above: bet against "A - B is at most -margin"; else against "at least -margin".
        ends: between which A - B lies for each question.

    Raises:
        ValueError: a picture larger than `largest`, or a difference beyond 1 per question.
    """
    total = np.asarray(sums, dtype=float)
    size = np.broadcast_to(np.asarray(sizes, dtype=float), total.shape)
    if size.size and (size.max() > largest or np.any(np.abs(total) > size + 1e-9)):
        raise ValueError(f"expected at most {largest:g} questions a picture and differences within 1 for each")
    offset = np.asarray(margin, dtype=float)
    won = (total + offset * size) / largest * (1.0 if above else -1.0)
    worst = np.maximum(1e-9, -ends[0] - offset if above else ends[1] + offset)
    paths = (np.cumsum(np.log1p(bet * won / worst), axis=-1) + math.log(share) for bet, share in BETS[above])
    return np.asarray(reduce(np.logaddexp, paths), dtype=float)


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
    best: ArrayLike | None = None,
) -> Stop:
    """Decide A against B as early as the evidence allows, looking after every picture.

    A pure function of the pictures in order: run again on more of them it never takes a decision back. A margin of 0
    asks which of the two is better: `within` then means that A is.

    Args:
        sums, sizes, margin, largest: as in `log_wealth`, for one comparison: [T].
        family: comparisons among which not one may be wrong with more than `alpha`. One of a comparison's two claims
            is true, so it counts once.
        best: the sums if every missing answer were as good for A as it can be, where `sums` takes them as bad as they
            can be; `worse` is decided on these.
    """
    within = log_wealth(sums, sizes, margin, largest)
    worse = log_wealth(sums if best is None else best, sizes, margin, largest, above=False)
    limit = math.log(family / alpha)
    hits = np.flatnonzero((within > limit) | (worse > limit))
    if not within.size:
        return Stop("undecided", 0, 0.0, 0.0)
    at = int(hits[0]) if hits.size else within.size - 1
    verdict = "undecided" if not hits.size else "within" if within[at] > limit else "worse"
    return Stop(verdict, at + 1, float(within[at]), float(worse[at]))


def one_sided_so_far(
    sums: ArrayLike, sizes: ArrayLike, largest: float, margin: float = 0.0, level: float = 0.90
) -> OneSided:
    """Test `mean of A - B + margin >= 0` in both directions, valid although one stopped asking when it was decided.

    `p` is one over the largest wealth so far. Bounds hold every mean that no wealth has excluded so far, on a grid of
    half a hundredth; they are wider than those of a number of pictures that was fixed in advance.

    Args:
        sums, sizes, largest: as in `log_wealth`, for one comparison: [T].
    """
    total, size = (np.asarray(side, dtype=float) for side in (sums, sizes))
    count = int(total.size)
    value, n = float(total.sum() / size.sum()), int(size.sum())
    claim, against = (float(log_wealth(total, size, margin, largest, above).max()) for above in (True, False))
    low, high = _bounds(total, size, largest, (1 - level) / 2, -1.0, 1.0)
    return OneSided(
        value=value + margin,
        low=low + margin,
        high=high + margin,
        p_claim=min(1.0, math.exp(-claim)),
        p_against=min(1.0, math.exp(-against)),
        n=n,
        n_clusters=count,
    )


def interval_so_far(sums: ArrayLike, sizes: ArrayLike, largest: float, level: float = 0.95) -> tuple[float, float]:
    """Bounds of a share of 1 that miss it with at most `1 - level`, whenever one stops.

    Args:
        sums: per picture, in order, the sum of scores within [0, 1]: [T].
        sizes, largest: as in `log_wealth`.
    """
    total, size = (np.asarray(side, dtype=float) for side in (sums, sizes))
    return _bounds(total, size, largest, (1 - level) / 2, 0.0, 1.0)


def _bounds(sums: Floats, sizes: Floats, largest: float, alpha: float, low: float, high: float) -> tuple[float, float]:
    """Smallest and largest mean that the wealth against it leaves possible, each missing it with chance `alpha`."""
    means = np.linspace(low, high, round((high - low) / GRID) + 1)
    limit = -math.log(alpha)
    above, below = (
        log_wealth(sums, sizes, -means[:, None], largest, side, (low, high)).max(axis=-1, initial=0.0) > limit
        for side in (True, False)
    )
    first = int(np.argmin(above)) if not above.all() else above.size - 1
    last = below.size - 1 - int(np.argmin(below[::-1])) if not below.all() else 0
    return float(means[max(0, first - 1)]), float(means[min(means.size - 1, last + 1)])
