"""Pairs of contenders on the samples that both answered: the parts that tests and averages are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hero_ray import stats
from hero_ray.core.errors import NotComparableError
from hero_ray.core.types import Scored
from hero_ray.results.contenders import Results, aligned
from hero_ray.store import CellRow
from hero_ray.store.records import ScoreRow


def shared(
    results: Results, a: Sequence[CellRow], b: Sequence[CellRow]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`aligned` scores of both, or None where no sample was answered by both: a run under way, or answers pruned."""
    try:
        return aligned(results.scores(a), results.scores(b))
    except NotComparableError:
        return None


@dataclass(frozen=True)
class Figure:
    """A benchmark's main figure over any answers.

    Attributes:
        metric: its key.
    """

    benchmark: Any
    metric: str

    def __call__(self, scored: Sequence[Scored]) -> float:
        whole = (m.value for m in self.benchmark.aggregate(scored) if m.name == self.metric and not m.category)
        return float(next(whole, np.nan))

    def of_sums(self, first: Sequence[Scored], second: Sequence[Scored]) -> stats.OfSums | None:
        """The figure of either side from sums over its answers, where the benchmark tells it so; much faster."""
        tally = getattr(self.benchmark, "tally", None)
        if tally is None:
            return None
        one, two = tally(first), tally(second)
        if self.metric not in one.figures(one.counts.sum(axis=0)):
            return None
        return stats.OfSums(one.counts, two.counts, lambda sums: one.figures(sums)[self.metric])


AnyPart = stats.Part | stats.CompositePart


def composite_pair(
    results: Results,
    a: Sequence[CellRow],
    others: Results,
    b: Sequence[CellRow],
    short: tuple[bool, bool] = (False, False),
) -> tuple[Figure, list[Scored | None], list[Scored | None], list[str]] | None:
    """The benchmark's own aggregate with the answers of both sides, where the main metric is no mean of scores.

    None for plain means, and for several seeds, whose answers cannot be averaged.

    Args:
        short: whether A and B fell short; where one did, its missing answers are None beside the other's. Else only
            shared samples count.
    """
    metric = results.metrics.get(a[0].id)
    if metric is None or metric.interval != "cluster-bootstrap" or len(a) != 1 or len(b) != 1:
        return None
    from hero_ray.benchmarks import get

    benchmark = get(a[0].benchmark, flavour=a[0].flavour)

    figure = Figure(benchmark, metric.metric)
    rows_a = {row.sample_id: row for row in results.store.cell_scores(results.run.id, a[0].id)}
    rows_b = {row.sample_id: row for row in others.store.cell_scores(others.run.id, b[0].id)}
    known = rows_b | rows_a
    ids = [key for key in sorted(known) if (key in rows_a or short[0]) and (key in rows_b or short[1])]

    def scored(row: ScoreRow | None) -> Scored | None:
        return None if row is None else Scored(row.sample(a[0].benchmark), row.text, row.scores)

    first, second = ([scored(rows.get(key)) for key in ids] for rows in (rows_a, rows_b))
    return figure, first, second, [known[key].image_key for key in ids]


def present(answers: Sequence[Scored | None]) -> list[Scored]:
    return [answer for answer in answers if answer is not None]


def parts(results: Results, label: str, rival: str, benchmarks: Sequence[str]) -> dict[str, stats.Part]:
    """Scores of one label beside a rival's on every benchmark that both have."""
    found = {}
    for name in benchmarks:
        mine, other = results.groups[label].get(name), results.groups.get(rival, {}).get(name)
        answers = shared(results, mine, other) if mine and other else None
        if answers is not None:
            found[name] = stats.Part(*answers)
    return found


def own_parts(results: Results, label: str, rival: str, benchmarks: Sequence[str]) -> dict[str, AnyPart]:
    """The same by each benchmark's own figure: its aggregate where that is no mean of scores."""
    found: dict[str, AnyPart] = dict(parts(results, label, rival, benchmarks))
    for name in found:
        mine, other = results.groups[label][name], results.groups[rival][name]
        composite = composite_pair(results, mine, results, other)
        if composite is not None:
            figure, first, second, pictures = composite
            scale = results.metrics[mine[0].id].scale
            found[name] = stats.CompositePart(figure, present(first), present(second), pictures, scale)
    return found


def ratio_part(results: Results, cells: Sequence[CellRow], full: Sequence[CellRow]) -> AnyPart | None:
    """A contender beside the unpruned model on one benchmark, by its own aggregate where that is no mean of scores.

    None where the unpruned model scores nothing (a share of nothing is undefined) or nothing was answered by both.
    """
    composite = composite_pair(results, cells, results, full)
    if composite is not None:
        figure, mine, base, pictures = composite
        whole = present(base)
        return stats.CompositePart(figure, present(mine), whole, pictures) if figure(whole) > 0 else None
    answers = shared(results, cells, full)
    return stats.Part(*answers) if answers is not None and answers[1].sum() > 0 else None
