"""Paired differences of cells from a baseline, corrected for how many are shown. No Streamlit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hero_ray import stats
from hero_ray.results.shown.points import Mark

Scores = tuple[Any, Any, Any]
"""Sample ids, picture hashes, scores of one cell."""


@dataclass(frozen=True)
class Difference:
    """A configuration minus the baseline on one benchmark, in points of 100.

    Attributes:
        p_holm: p after Holm's correction over every difference shown with it.
        pairs: samples that both answered.
    """

    series: str
    method: str
    budget: str
    benchmark: str
    value: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    test: str
    pairs: int
    wins: int
    losses: int

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `undecided` at 5 % after correction."""
        if self.p_holm >= 0.05:
            return "undecided"
        return "better" if self.value > 0 else "worse"


def merged_scores(cells: Sequence[tuple[str, str]], read: Callable[[str, str], Scores]) -> Scores:
    """Scores of one configuration; of several seeds the mean per sample, over samples that all of them answered."""
    loaded = [read(run, cell) for run, cell in cells]
    if len(loaded) == 1:
        return loaded[0]
    total: dict[str, list[float]] = defaultdict(list)
    clusters: dict[str, str] = {}
    for ids, images, scores in loaded:
        clusters |= dict(zip(ids, images, strict=True))
        for sample, score in zip(ids, scores, strict=True):
            total[sample].append(float(score))
    common = sorted(sample for sample, scores in total.items() if len(scores) == len(loaded))
    means = np.array([float(np.mean(total[sample])) for sample in common])
    return np.array(common, dtype=object), np.array([clusters[sample] for sample in common], dtype=object), means


def differences(
    found: Sequence[Mark], baseline: Sequence[Mark], read: Callable[[str, str], Scores], factor: float = 100.0
) -> list[Difference]:
    """Every mark against the baseline's mark on the same model and benchmark; pairs are samples both answered.

    Args:
        factor: points per unit of score (100 / scale).
    """
    base = {(mark.model, mark.benchmark): mark for mark in baseline}
    rows = []
    for mark in found:
        other = base.get((mark.model, mark.benchmark))
        if other is None or other.cells == mark.cells:
            continue
        ids_a, images, scores_a = merged_scores(mark.cells, read)
        ids_b, _, scores_b = merged_scores(other.cells, read)
        first, second = stats.shared(ids_a, ids_b)
        if first.size:
            tested = stats.paired(scores_a[first], scores_b[second], images[first], resamples=4999)
            rows.append(_row(mark, tested, factor))
    if not rows:
        return []
    corrected = stats.holm([row.p for row in rows])
    return [replace(row, p_holm=float(p)) for row, p in zip(rows, corrected, strict=True)]


def _row(mark: Mark, tested: stats.Paired, factor: float) -> Difference:
    return Difference(
        series=mark.series,
        method=mark.method,
        budget=mark.budget,
        benchmark=mark.benchmark,
        value=factor * tested.difference,
        low=None if tested.low is None else factor * tested.low,
        high=None if tested.high is None else factor * tested.high,
        p=tested.p_value,
        p_holm=tested.p_value,
        test=tested.test,
        pairs=tested.n,
        wins=tested.wins,
        losses=tested.losses,
    )
