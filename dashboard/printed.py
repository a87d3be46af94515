"""Points printed in papers, put onto the axes of our charts. No Streamlit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from hero_ray.results import published
from hero_ray.results.axes import Axis
from hero_ray.results.published import OverlayPoint

_MEASURED_BY = {
    "authors": "measured by the method's authors",
    "copied": "probably copied from another paper",
    "unstated": "who measured it is not stated",
}


def overlay(axis: Axis, benchmark: str | None) -> list[dict[str, Any]]:
    """Markers for `figures.frontier`: of one benchmark, or (None) the mean share of the unpruned score."""
    if benchmark is None:
        return _averages(axis)
    found = ((point, axis.printed_cost(point)) for point in published.overlay(None, benchmark))
    return [_marker(point, x, 100 * point.share) for point, x in found if x is not None]


def _marker(point: OverlayPoint, x: float, y: float, what: str = "") -> dict[str, Any]:
    paper = point.paper.upper() if point.paper != "hired" else "HiRED"
    source = f"{paper} Table {point.table}, {point.model}"
    lines = [source, what, _MEASURED_BY[point.measured_by], point.note]
    return {
        "method": point.method,
        "label": f"{point.method}, {source}",
        "x": x,
        "y": y,
        "source": "<br>".join(line for line in lines if line),
    }


def _averages(axis: Axis) -> list[dict[str, Any]]:
    tables: dict[tuple[str, str, str], list[OverlayPoint]] = defaultdict(list)
    for point in published.overlay():
        tables[point.paper, point.table, point.model].append(point)
    markers = []
    for points in tables.values():
        full = {(p.benchmark, p.metric): p.share for p in points if p.method == "full"}
        groups: dict[tuple[str, float | None], list[OverlayPoint]] = defaultdict(list)
        for point in points:
            groups[point.method, point.budget].append(point)
        for group in groups.values():
            x = axis.printed_cost(group[0])
            if len(full) > 2 and x is not None and _covers(group, full):
                share = 100 * fmean(p.share / full[p.benchmark, p.metric] for p in group)
                markers.append(_marker(group[0], x, share, f"mean over {len(group)} benchmarks"))
    return markers


def _covers(group: Sequence[OverlayPoint], full: dict[tuple[str, str], float]) -> bool:
    """Averages over unequal sets of benchmarks would not compare."""
    return {(p.benchmark, p.metric) for p in group} == set(full)
