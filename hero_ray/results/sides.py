"""Two contenders' answers on one benchmark, and what they show about the gap between their figures.

The one place where `check` and `advise` test: on the benchmark's own figure, whether that is a mean of scores or not,
with cells that were decided early, and with answers that are missing on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hero_ray import stats
from hero_ray.core.types import Scored
from hero_ray.results import early
from hero_ray.results.contenders import Results, is_short, together
from hero_ray.results.needs import Forecast, by_bound, changes_of, forecast
from hero_ray.results.pairs import AnyPart, Figure, composite_pair
from hero_ray.stats.clusters import cluster_codes
from hero_ray.stats.verdicts import decide
from hero_ray.store import CellRow

ALPHA = 0.05
RESAMPLES = 400
WAYS = ((False, False), (True, False), (False, True), (True, True))
"""Ways to count missing answers: which side's are taken as wrong; the other side's samples are then left out."""


def made_wrong(answer: Scored) -> Scored:
    """The same sample answered wrong: what a missing answer is counted as."""
    scores = {key: 0.0 if type(value) in (int, float) else value for key, value in answer.scores.items()}
    return replace(answer, prediction="", scores=scores)


class Sides:
    """A against B on one benchmark.

    Attributes:
        missing: answers that were asked for and are not there, of A and of B.
    """

    missing: tuple[int, int]

    def gap(
        self, sign: float, share: float, offset: float, wrong: tuple[bool, bool], level: float = 0.90
    ) -> stats.OneSided:
        """Test of `sign * (A - share * B - offset) >= 0`, in shares of the figure's scale; bounds at `level`."""
        raise NotImplementedError

    def part(self, wrong: tuple[bool, bool]) -> AnyPart | None:
        """The same answers as a part of a retention average; None where B scores nothing: a share is undefined then."""
        raise NotImplementedError

    @property
    def figures(self) -> tuple[float, float]:
        """Both figures on the samples that both answered."""
        raise NotImplementedError

    @property
    def differing(self) -> tuple[int, int]:
        """Pictures on which the two score differently, and all that both answered."""
        raise NotImplementedError

    def needed(self, allowed: float, claims: int = 1) -> Forecast:
        """Pictures that would tell A's loss against B from what is allowed, if all goes on as seen.

        Args:
            allowed: in shares of the figure's scale.
            claims: that must hold together at 5 %.
        """
        level = 1 - 2 * ALPHA / claims
        loss = self.gap(-1.0, 1.0, 0.0, (False, False), level)
        return by_bound(loss, allowed, claims, alike=self.differing[0] == 0)

    def ways(self, drop: bool = False) -> Sequence[tuple[bool, bool]]:
        """The ways to count missing answers that can matter; the first leaves them out."""
        return WAYS if any(self.missing) and not drop else WAYS[:1]

    def seen(self, at_most: float | None) -> str:
        """What was seen, in words.

        Args:
            at_most: largest loss that is not excluded, as a share of the scale.
        """
        differ, pictures = self.differing
        if at_most is None:
            return f"{pictures} picture(s) decide nothing"
        loss = min(100.0, max(0.0, 100 * at_most))
        shown = f"{loss:.0f}" if loss >= 10 else f"{loss:.1f}"
        return f"{differ} of {pictures} pictures differ; a loss up to {shown} points is not excluded"


@dataclass(frozen=True)
class Means(Sides):
    """A figure that is the mean of scores. NaN where an answer is missing."""

    results: Results
    cells: tuple[CellRow, ...]
    first: np.ndarray
    second: np.ndarray
    pictures: np.ndarray

    @property
    def missing(self) -> tuple[int, int]:  # type: ignore[override]
        return int(np.isnan(self.first).sum()), int(np.isnan(self.second).sum())

    def gap(
        self, sign: float, share: float, offset: float, wrong: tuple[bool, bool], level: float = 0.90
    ) -> stats.OneSided:
        left, right, pictures = self._kept(wrong)
        return early.one_sided(self.results, self.cells, sign * (left - share * right), pictures, -sign * offset, level)

    def part(self, wrong: tuple[bool, bool]) -> AnyPart | None:
        left, right, pictures = self._kept(wrong)
        return stats.Part(left, right, pictures) if right.sum() > 0 else None

    def _kept(self, wrong: tuple[bool, bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        left, right = (
            np.nan_to_num(side) if counted else side
            for side, counted in zip((self.first, self.second), wrong, strict=True)
        )
        kept = ~(np.isnan(left) | np.isnan(right))
        if kept.all():
            return left, right, self.pictures
        return left[kept], right[kept], self.pictures[kept]

    def needed(self, allowed: float, claims: int = 1) -> Forecast:
        mine, base, pictures = self._kept((False, False))
        changes = changes_of(mine, base, pictures)
        return forecast(allowed, float((base - mine).mean()), changes, claims, held=len(changes.sizes))

    @property
    def figures(self) -> tuple[float, float]:
        kept = ~(np.isnan(self.first) | np.isnan(self.second))
        return float(self.first[kept].mean()), float(self.second[kept].mean())

    @property
    def differing(self) -> tuple[int, int]:
        codes, _ = cluster_codes(self.pictures, self.first.size)
        kept = ~(np.isnan(self.first) | np.isnan(self.second))
        changed = kept & (np.abs(self.first - self.second) > 1e-12)
        return np.unique(codes[changed]).size, np.unique(codes[kept]).size


@dataclass(frozen=True)
class Composites(Sides):
    """A figure that is no mean; None where an answer is missing."""

    figure: Figure
    first: Sequence[Scored | None]
    second: Sequence[Scored | None]
    pictures: Sequence[str]
    scale: float

    @property
    def missing(self) -> tuple[int, int]:  # type: ignore[override]
        return sum(one is None for one in self.first), sum(one is None for one in self.second)

    def _pairs(self, wrong: tuple[bool, bool]) -> tuple[list[tuple[Scored, Scored]], list[str]]:
        pairs, pictures = [], []
        for left, right, picture in zip(self.first, self.second, self.pictures, strict=True):
            known = left or right
            if known is None or (left is None and not wrong[0]) or (right is None and not wrong[1]):
                continue
            pairs.append((left or made_wrong(known), right or made_wrong(known)))
            pictures.append(picture)
        return pairs, pictures

    def gap(
        self, sign: float, share: float, offset: float, wrong: tuple[bool, bool], level: float = 0.90
    ) -> stats.OneSided:
        pairs, pictures = self._pairs(wrong)

        def value(drawn: Sequence[tuple[Scored, Scored]]) -> float:
            mine, theirs = self.figure([a for a, _ in drawn]), self.figure([b for _, b in drawn])
            return sign * ((mine - share * theirs) / self.scale - offset)

        sums = self.figure.of_sums([a for a, _ in pairs], [b for _, b in pairs])
        if sums is not None:
            draws = sign * (sums.gaps(pictures, RESAMPLES, 0, share) / self.scale - offset)
        else:
            draws = stats.bootstrap(value, pairs, pictures, RESAMPLES)
        se, count = float(np.nanstd(draws, ddof=1)), len(set(pictures))
        return decide(value(pairs), se, count, len(pairs), level)

    def part(self, wrong: tuple[bool, bool]) -> AnyPart | None:
        pairs, pictures = self._pairs(wrong)
        first, second = [a for a, _ in pairs], [b for _, b in pairs]
        return stats.CompositePart(self.figure, first, second, pictures) if self.figure(second) > 0 else None

    @cached_property
    def _both(self) -> tuple[list[tuple[Scored, Scored]], list[str]]:
        return self._pairs((False, False))

    @property
    def figures(self) -> tuple[float, float]:
        pairs, _ = self._both
        return self.figure([a for a, _ in pairs]) / self.scale, self.figure([b for _, b in pairs]) / self.scale

    @property
    def differing(self) -> tuple[int, int]:
        pairs, pictures = self._both
        changed = {picture for (a, b), picture in zip(pairs, pictures, strict=True) if a.scores != b.scores}
        return len(changed), len(set(pictures))


def sides(
    results: Results,
    a: Sequence[CellRow],
    b: Sequence[CellRow],
    drop: bool = False,
    others: Results | None = None,
) -> Sides:
    """The answers of A's cells beside those of B's, on one benchmark.

    Args:
        others: the results that B is of, if not A's.
        drop: leave out samples that one side did not answer, without counting them.

    Raises:
        NotComparableError: they share no answered sample.
    """
    short = (False, False) if drop else (is_short(a), is_short(b))
    theirs = others or results
    composite = composite_pair(results, a, theirs, b, short)
    if composite is not None:
        figure, first, second, pictures = composite
        return Composites(figure, first, second, pictures, results.metrics[a[0].id].scale)
    asked = results.scores([results.fullest(a[0].benchmark)])
    first_scores, second_scores, images = together(results.scores(a), theirs.scores(b), short, asked)
    return Means(results, (*a, *b), first_scores, second_scores, images)


def worst(tests: Sequence[stats.OneSided]) -> tuple[float, float]:
    """Largest p of the claim and of its opposite, over all ways to count the missing."""
    return max(test.p_claim for test in tests), max(test.p_against for test in tests)


Judge = Callable[[stats.OneSided], str]


def judged(
    found: Sides, judge: Judge, drop: bool, sign: float, share: float, offset: float
) -> tuple[stats.OneSided, str]:
    """The test without the missing, and the verdict: `undecided: n failed samples` where counting them changes it."""
    tests = [found.gap(sign, share, offset, wrong) for wrong in found.ways(drop)]
    return tests[0], agreed(tests, judge, sum(found.missing))


def agreed(tests: Sequence[stats.OneSided], judge: Judge, missing: int) -> str:
    """The verdict of all tests, one for each way to count the missing; `undecided` where they do not agree."""
    verdicts = [judge(test) for test in tests]
    if all(verdict == verdicts[0] for verdict in verdicts):
        return verdicts[0]
    return f"undecided: {missing} failed sample{'' if missing == 1 else 's'}"
