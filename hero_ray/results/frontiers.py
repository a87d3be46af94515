"""Which contenders are worth their cost: per benchmark, per category, or by the retention average, on any cost axis.

A state is a fact of a run: it is decided here, among all contenders of a model, and every surface only shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hero_ray import stats
from hero_ray.core.errors import NotComparableError
from hero_ray.results import early
from hero_ray.results.averages import averages, retained, strictly
from hero_ray.results.axes import axis
from hero_ray.results.contenders import Results
from hero_ray.results.marks import Mark, by_certificate
from hero_ray.results.pairs import parts
from hero_ray.stats.frontier import Placed, Point, frontier

AVERAGE = "average share of the unpruned score"
Test = Callable[[str, str], float | None]
"""One-sided p that the first label truly scores above the second; None where only intervals can say."""


@dataclass(frozen=True)
class Frontier:
    """One chart: what is scored, and every contender with its place, cheapest first; scores in points of 100.

    Attributes:
        benchmark: "" for the average.
        certificate: conditions of a measured axis, on which all points agree.
        marks: label -> what stands behind the point of that id.
    """

    title: str
    model: str
    benchmark: str
    category: str
    metric: str
    axis: str
    certificate: str | None
    placed: tuple[Placed, ...]
    marks: Mapping[str, Mark]

    @property
    def states(self) -> dict[str, str]:
        """Label -> `frontier`, `dominated` or `unclear`."""
        return {entry.point.id: entry.state for entry in self.placed}

    @property
    def line(self) -> list[Mark]:
        """What lies on the frontier, cheapest first."""
        return [self.marks[entry.point.id] for entry in self.placed if entry.state == "frontier"]


def frontiers(
    results: Results,
    by: str = "tokens",
    benchmarks: Iterable[str] | None = None,
    categories: bool = False,
    metric: str | None = None,
    batch_size: int | None = None,
    apart: bool = False,
) -> list[Frontier]:
    """One frontier per benchmark, or per benchmark and category.

    Contenders are compared on the samples they share where the figure is the mean of their scores, else by intervals.

    Args:
        apart: give timings under unlike conditions a frontier each.

    Raises:
        NotComparableError: timings under unlike conditions, not told `apart`.
    """
    found: dict[tuple[str, str, str], list[Mark]] = {}
    for mark in results.marks(benchmarks, metric, categories, batch_size):
        found.setdefault((mark.benchmark, mark.category, mark.metric), []).append(mark)
    charts: list[Frontier] = []
    for (name, category, _), group in found.items():
        means = not any(_composite(results, mark) for mark in group)
        paired = _by_scores(results, name) if means and not categories and metric is None else None
        charts += _charts(results, f"{name} / {category}" if category else name, group, by, paired, apart)
    return charts


def average_frontiers(
    results: Results, by: str = "tokens", benchmarks: Iterable[str] | None = None, apart: bool = False
) -> list[Frontier]:
    """The frontier of the retention average; costs are means over the benchmarks averaged.

    Raises:
        NotComparableError: timings under unlike conditions, not told `apart`.
    """
    chosen = results.only(benchmarks)
    group = averages(results, chosen)
    return _charts(results, AVERAGE, group, by, _by_shares(results, chosen), apart) if group else []


def _charts(
    results: Results, title: str, group: Sequence[Mark], by: str, p_better: Test | None, apart: bool
) -> list[Frontier]:
    cost = axis(by)
    groups = by_certificate(group, cost) or {None: []}
    if len(groups) > 1 and not apart:
        raise NotComparableError(
            f"{cost.label}: the cells were timed under {len(groups)} different conditions "
            f"(certificates {', '.join(sorted(map(str, groups)))}); pick the cells of one profile run"
        )
    first, charts = group[0], []
    for certificate, members in groups.items():
        points = [_point(mark, mark.costs[by] or 0.0) for mark in members]
        placed = tuple(frontier(points, p_better, cost.higher_is_cheaper))
        known = {mark.name.key: mark for mark in members}
        head = (title, results.model, first.benchmark, first.category, first.metric)
        charts.append(Frontier(*head, by, certificate, placed, known))
    return charts


def _point(mark: Mark, cost: float) -> Point:
    return Point(mark.name.key, mark.name.key, cost, mark.value, mark.low, mark.high)


def _composite(results: Results, mark: Mark) -> bool:
    """Whether a figure is no mean of scores, so that pairs of scores do not decide it."""
    main = (results.metrics.get(cell) for _, cell in mark.cells)
    return any(row is not None and row.interval == "cluster-bootstrap" for row in main)


def _by_scores(results: Results, benchmark: str) -> Test:
    def test(a: str, b: str) -> float | None:
        shared = parts(results, a, b, [benchmark])
        if not shared:
            return None  # answers that were pruned, or a run under way: intervals are left
        pair = shared[benchmark]
        cells = [*results.groups[a][benchmark], *results.groups[b][benchmark]]
        return strictly(early.one_sided(results, cells, np.subtract(pair.scores, pair.full), np.asarray(pair.clusters)))

    return lambda a, b: results.once(("p", benchmark, a, b), lambda: test(a, b))


def _by_shares(results: Results, benchmarks: tuple[str, ...]) -> Test:
    by_label = {item.label: item.parts for item in retained(results, benchmarks)}

    def test(a: str, b: str) -> float:
        return strictly(stats.retention_difference(by_label[a], by_label[b]))

    return lambda a, b: results.once(("p", benchmarks, a, b), lambda: test(a, b))
