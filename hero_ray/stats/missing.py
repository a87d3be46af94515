"""Missing is evidence: would a verdict stand if the answers that are not there were wrong?

A cell that fails on what it would get wrong (out of memory on large pictures, time out on long ones) looks perfect on
the rest. So verdicts are taken again with the missing answers counted wrong, on either side and on both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hero_ray.stats.evidence import Floats

Judge = Callable[[Floats, Floats, NDArray[np.bool_]], str]


@dataclass(frozen=True)
class Missing:
    """What missing answers do to a verdict.

    Attributes:
        left, right: samples without an answer on each side.
        verdict: on the samples that both answered.
        if_wrong: the verdicts with missing answers counted wrong on the left, on the right, and on both sides.
        low, high: the mean difference if every missing answer were as bad for the left as it can be, and as good.
    """

    left: int
    right: int
    verdict: str
    if_wrong: tuple[str, str, str]
    low: float
    high: float

    @property
    def stands(self) -> bool:
        """No count of the missing changes the verdict."""
        return all(verdict == self.verdict for verdict in self.if_wrong)

    @property
    def final(self) -> str:
        """The verdict, or why there is none: `undecided: n failed samples`."""
        n = self.left + self.right
        return self.verdict if self.stands else f"undecided: {n} failed sample{'' if n == 1 else 's'}"


def with_missing(a: ArrayLike, b: ArrayLike, judge: Judge, wrong: float = 0.0, right: float = 1.0) -> Missing:
    """Take a verdict with and without the samples that miss an answer.

    Args:
        a, b: scores of both sides on all samples asked for, NaN where an answer is missing.
        judge: verdict of two sets of scores; its third argument says which of all samples they are.
        wrong, right: score of a wrong and of a right answer.

    Raises:
        ValueError: unequal lengths, or no sample that both answered.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"expected two equally long sets of scores, got {first.size} and {second.size}")
    no_left, no_right = np.isnan(first), np.isnan(second)
    both = ~(no_left | no_right)
    if not both.any():
        raise ValueError(f"none of {first.size} samples was answered by both sides")
    left_wrong, right_wrong = np.where(no_left, wrong, first), np.where(no_right, wrong, second)
    everything = np.ones(first.size, dtype=bool)

    def verdict(left: Floats, right: Floats, kept: NDArray[np.bool_]) -> str:
        return judge(left[kept], right[kept], kept)

    plain = verdict(first, second, both)
    some = bool((~both).any())
    return Missing(
        left=int(no_left.sum()),
        right=int(no_right.sum()),
        verdict=plain,
        if_wrong=(
            verdict(left_wrong, second, ~no_right) if some else plain,
            verdict(first, right_wrong, ~no_left) if some else plain,
            verdict(left_wrong, right_wrong, everything) if some else plain,
        ),
        low=float((left_wrong - np.where(no_right, right, second)).mean()),
        high=float((np.where(no_left, right, first) - right_wrong).mean()),
    )
