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
        at_least: below this many even two cells without any difference stay undecided (the rule of three).
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
        margin: in score units (0.01 is one point), above `loss`.
        loss: true loss to plan for; a fifth of the margin if None.
        changed: share of questions whose answer changes its score, from earlier runs; `loss` (losses only) if None.
        alike: how alike the changes of one picture are, 0 (independent) to 1 (all or none).
        sizes: questions per picture of this benchmark, as many as are known; their unevenness counts.

    Raises:
        ValueError: the loss is not below the margin, or a share is out of range.
    """
    lost = margin / 5 if loss is None else loss
    share = max(lost, 0.0) if changed is None else changed
    if not 0 < margin < 1 or not lost < margin or not abs(lost) <= share <= 1 or not 0 < power < 1:
        raise ValueError(
            f"expected a loss ({lost:g}) below a margin ({margin:g}) within 0 to 1, changes ({share:g}) of at least "
            f"the loss, and a power ({power:g}) within 0 to 1"
        )
    clusters = _Clusters.of(np.asarray(sizes, dtype=float), alike)

    def shown(pictures: int) -> bool:
        return bool(lower_bound(_unlucky(pictures, power, lost, share, clusters), alpha) > -margin)

    at_least = math.ceil(math.log(alpha) / math.log1p(-margin) * clusters.large)
    high = max(2, at_least)
    while not shown(high):
        high *= 2
        if high > MOST_PICTURES:
            return Need(None, at_least, power)
    low = max(1, high // 2, at_least - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return Need(high, at_least, power)


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


def _unlucky(pictures: int, power: float, lost: float, share: float, clusters: _Clusters) -> Evidence:
    """A sample as unlucky as its power allows: the loss one-sided above the true one."""
    between = share - lost**2
    variance = between * clusters.alike_each / pictures
    unlucky = lost + float(special.ndtri(power)) * math.sqrt(variance)
    seen = max(share - lost + unlucky, 0.0) - unlucky**2
    return Evidence(
        value=np.asarray(-unlucky),
        variance=np.asarray(max(seen, 0.0) * clusters.alike_each / pictures),
        third=np.asarray(unlucky * clusters.alike_each * clusters.large / pictures**2),
        unit=np.asarray(clusters.even / pictures),
        top=np.asarray(clusters.large / pictures),
        pieces=np.asarray(share * pictures),
        typical=np.asarray(clusters.large / pictures),
        df=np.asarray(max(1.0, pictures / clusters.large - 1)),
        count=pictures,
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
