"""Figures that are no mean of scores, as functions of sums over samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hero_ray.core.types import Scored

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What each sample adds, and what any sums come to.

    A bootstrap over whole pictures is then one matrix product instead of thousands of aggregates.

    Attributes:
        counts: [samples, k]; what belongs to a picture as a whole stands on one of its samples.
        figures: sums [..., k] -> figures over the whole benchmark by metric key, each [...]; equal to the benchmark's
            aggregate wherever samples of a picture come together.
    """

    counts: Floats
    figures: Callable[[Floats], dict[str, Floats]]


def share(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(np.asarray(part, dtype=float)), where=whole > 0)


def f1(right: Floats, false_alarms: Floats, missed: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and their harmonic mean."""
    precision, recall = share(right, right + false_alarms), share(right, right + missed)
    return precision, recall, share(2 * precision * recall, precision + recall)


def detected(scored: Sequence[Scored], reader: str = "read", unknown_is_no: bool = False) -> Floats:
    """Per sample: found, false alarm, missed, as `yes_no.detection` counts them: [n, 3]."""
    rows = []
    for item in scored:
        guess, gold = item.scores[reader], item.scores["gold"]
        missed = gold == "yes" and (guess == "no" or (unknown_is_no and guess != "yes"))
        rows.append((guess == "yes" == gold, guess == "yes" != gold, missed))
    return np.array(rows, dtype=float).reshape(-1, 3)


def said_yes(scored: Sequence[Scored]) -> Floats:
    """Per sample: one, whether yes was read, whether yes is right: [n, 3]; what shares of yes are made of."""
    rows = [(1.0, item.scores["read"] == "yes", item.scores["gold"] == "yes") for item in scored]
    return np.array(rows, dtype=float).reshape(-1, 3)
