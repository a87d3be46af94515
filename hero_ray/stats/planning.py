"""How many pictures does a verdict need, and what can so many show?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hero_ray.stats.evidence import Evidence, Floats, lower_bound
from hero_ray.stats.intervals import t_quantile

MOST_PICTURES = 10_000_000


@dataclass(frozen=True)
class Need:
    """Pictures that a verdict at a margin needs.

    Attributes:
        pictures: to be shown with the power asked for; None where no number up to ten million does.
        at_least: below this many even two cells without any difference stay undecided (the rule of three); 0 where
            such cells never show it.
        power: asked for.
    """

    pictures: int | None
    at_least: int
    power: float


def pictures_needed(
    margin: float,
    power: float = 0.8,
    loss: float | None = None,
    changed: float | None = None,
    alike: float = 1.0,
    sizes: Sequence[int] | NDArray[np.int64] = (1,),
    alpha: float = 0.05,
) -> Need:
    """How many pictures until "the loss is below `margin`" is shown with probability `power`.

    Args:
        margin: in score units (0.01 is one point), above `loss`; negative where a gain of at least so much is to be
            shown, for which more than agreement is needed.
        loss: true loss to plan for; a fifth of the margin if None.
        changed: share of questions whose answer changes its score, from earlier runs; `loss` (losses only) if None.
        alike: how alike the changes of one picture are, 0 (independent) to 1 (all or none).
        sizes: questions per picture of this benchmark, as many as are known; their unevenness counts.

    Raises:
        ValueError: the loss is not below the margin, or a share is out of range.
    """
    lost = margin / 5 if loss is None else loss
    share = max(lost, 0.0) if changed is None else changed
    if not -1 < margin < 1 or not lost < margin or not abs(lost) <= share <= 1 or not 0 < power < 1:
        raise ValueError(
            f"expected a loss ({lost:g}) below a margin ({margin:g}) within -1 to 1, changes ({share:g}) of at least "
            f"the loss, and a power ({power:g}) within 0 to 1"
        )
    clusters = _Clusters.of(np.asarray(sizes, dtype=float), alike)

    def shown(pictures: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(lower_bound(_unlucky(pictures, power, lost, share, clusters), alpha) > -margin)

    at_least = math.ceil(math.log(alpha) / math.log1p(-margin) * clusters.large) if margin > 0 else 0
    highs = np.array(_doubled(max(2, at_least)))
    reached = np.flatnonzero(shown(highs))
    if not reached.size:
        return Need(None, at_least, power)
    high = int(highs[reached[0]])
    low = max(1, high // 2, at_least - 1)
    while high - low > 1:  # between what is not enough and what is
        tried = np.unique(np.linspace(low + 1, high, 65).astype(np.int64))
        first = int(np.argmax(shown(tried)))
        low, high = (int(tried[first - 1]) if first else low), int(tried[first])
    return Need(high, at_least, power)


def _doubled(first: int) -> list[int]:
    """`first` and its doubles up to the most pictures that a plan looks at."""
    found = [first]
    while 2 * found[-1] <= MOST_PICTURES:
        found.append(2 * found[-1])
    return found


@dataclass(frozen=True)
class _Clusters:
    """Shape of a benchmark's pictures: E m^2 / (E m)^2, E m^3 / (E m^2 E m), and the share of a variance that a mean
    over pictures keeps."""

    even: float
    large: float
    alike_each: float

    @classmethod
    def of(cls, size: Floats, alike: float) -> _Clusters:
        mean, square = size.mean(), (size**2).mean()
        return cls(
            even=float(square / mean**2),
            large=float((size**3).mean() / square / mean),
            alike_each=float((size + alike * size * (size - 1)).mean() / mean**2),
        )


def _unlucky(pictures: NDArray[np.int64], power: float, lost: float, share: float, clusters: _Clusters) -> Evidence:
    """Samples as unlucky as their power allows, by their size: the loss one-sided above the true one."""
    variance = (share - lost**2) * clusters.alike_each / pictures
    unlucky = lost + float(special.ndtri(power)) * np.sqrt(variance)
    seen = np.maximum(share - lost + unlucky, 0.0) - unlucky**2
    return Evidence(
        value=-unlucky,
        variance=np.maximum(seen, 0.0) * clusters.alike_each / pictures,
        third=unlucky * clusters.alike_each * clusters.large / pictures**2.0,
        unit=clusters.even / pictures,
        top=clusters.large / pictures,
        pieces=np.asarray(share * pictures),
        typical=clusters.large / pictures,
        df=np.maximum(1.0, pictures / clusters.large - 1),
        count=0,
    )


def detectable(se: float, power: float = 0.8, alpha: float = 0.05, df: float = math.inf) -> float:
    """Smallest true difference that a two-sided test at `alpha` finds with probability `power`."""
    return (_quantile(1 - alpha / 2, df) + _quantile(power, df)) * se


def predicted_power(effect: float, se: float, alpha: float = 0.05) -> float:
    """Chance that a two-sided test at `alpha` finds a true difference of `effect`."""
    z = float(special.ndtri(1 - alpha / 2))
    return float(special.ndtr(abs(effect) / se - z) + special.ndtr(-abs(effect) / se - z))


def _quantile(probability: float, df: float) -> float:
    return float(special.ndtri(probability)) if math.isinf(df) else t_quantile(probability, df)
