"""Frontiers of a run: per benchmark, per category, or of the retention average, on any cost axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hero_ray import stats
from hero_ray.results.contenders import Results, aligned
from hero_ray.results.pairs import Retained, retained
from hero_ray.stats.frontier import Placed, Point, axis, cost_of, frontier, points
from hero_ray.store import PointRow

AVERAGE = "average share of the unpruned score"


@dataclass(frozen=True)
class Frontier:
    """One chart: what is scored, on which scale, and every point with its place, cheapest first."""

    title: str
    benchmark: str
    category: str
    metric: str
    scale: float
    axis: str
    placed: tuple[Placed, ...]


def frontiers(
    results: Results,
    by: str = "tokens",
    benchmarks: Iterable[str] | None = None,
    categories: bool = False,
    metric: str | None = None,
    batch_size: int | None = None,
) -> list[Frontier]:
    """One frontier per benchmark, or per benchmark and category.

    Cells are compared on the samples they share where the figure is the mean of their scores, else by intervals.
    """
    chosen = results.only(benchmarks)
    rows = results.store.points([results.run.id], metric, chosen, categories, batch_size)
    mine = {cell.id for cell in results.cells}
    found: dict[tuple[str, str, str], list[PointRow]] = {}
    for row in rows:
        if row.cell_id in mine:
            found.setdefault((row.benchmark, row.category, row.metric), []).append(row)
    return [_one(results, key, group, by, paired=not categories and metric is None) for key, group in found.items()]


def _one(results: Results, key: tuple[str, str, str], rows: Sequence[PointRow], by: str, paired: bool) -> Frontier:
    benchmark, category, metric = key
    merged = merge_seeds(rows, results.labels)
    made = points(merged, by, lambda row: results.labels[row.cell_id])
    made = [replace(point, id=point.label) for point in made]
    plain = all(results.metrics[row.cell_id].interval != "cluster-bootstrap" for row in rows if paired)
    p_better = _by_scores(results, benchmark) if paired and plain else None
    title = f"{benchmark} / {category}" if category else benchmark
    placed = tuple(frontier(made, p_better, by))
    return Frontier(title, benchmark, category, metric, rows[0].scale, by, placed)


def merge_seeds(rows: Sequence[PointRow], labels: dict[str, str]) -> list[PointRow]:
    """One row per label: figures and bounds averaged over seeds (cautious: seeds narrow no interval here)."""
    groups: dict[str, list[PointRow]] = {}
    for row in rows:
        groups.setdefault(labels[row.cell_id], []).append(row)
    return [group[0] if len(group) == 1 else _mean_row(group) for group in groups.values()]


_AVERAGED = ("value", "ci_low", "ci_high", "n_selected", "n_visual_llm", "equivalent_tokens", "flops", "kv_bytes")


def _mean_row(group: Sequence[PointRow]) -> PointRow:
    changed: dict[str, Any] = {}
    for name in _AVERAGED:
        values = [getattr(row, name) for row in group]
        changed[name] = None if any(value is None for value in values) else float(np.mean(values))
    profiled = next((row.profile for row in group if row.profile), {})
    return replace(group[0], profile=profiled, **changed)


def _by_scores(results: Results, benchmark: str) -> Callable[[str, str], float | None]:
    def p_better(a: str, b: str) -> float | None:
        mine, other = results.groups[a].get(benchmark), results.groups[b].get(benchmark)
        if not mine or not other:
            return None
        first, second, images = aligned(results.scores(mine), results.scores(other))
        return strictly(stats.one_sided(first - second, images))

    return p_better


def strictly(result: stats.OneSided) -> float:
    """p that a value is above 0, where equal scores (no spread at all) show nothing."""
    return 1.0 if result.value <= 0 else result.p_claim


def average_frontier(results: Results, by: str = "tokens", benchmarks: Iterable[str] | None = None) -> Frontier:
    """The frontier of the retention average; costs are means over the benchmarks averaged."""
    by_label = {item.label: item for item in retained(results, benchmarks)}
    rows = {row.cell_id: row for row in results.store.points([results.run.id])}
    made = [point for item in by_label.values() if (point := _average_point(item, rows, by)) is not None]

    def p_better(a: str, b: str) -> float | None:
        return strictly(stats.retention_difference(by_label[a].parts, by_label[b].parts))

    placed = tuple(frontier(made, p_better, by))
    return Frontier(AVERAGE, "", "", "retention", 1.0, by, placed)


def _average_point(item: Retained, rows: dict[str, PointRow], by: str) -> Point | None:
    chosen = axis(by)
    known = [rows[cell.id] for cell in item.cells if cell.id in rows]
    points(known, by)  # refuses unlike certificates
    costs = [cost_of(row, chosen) for row in known]
    usable = [cost for cost in costs if cost is not None]
    if not usable or len(usable) != len(costs):
        return None
    interval = item.interval
    return Point(item.label, item.label, float(np.mean(usable)), interval.value, interval.low, interval.high)
