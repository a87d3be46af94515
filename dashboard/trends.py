"""Figures over time: control limits, what changed between two runs, and the chart. No Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import plotly.graph_objects as go

from dashboard.figures import NEUTRAL, style
from hero_ray.results.names import name_all, seeds_told
from hero_ray.results.shown import palette
from hero_ray.store.figures import TrendRow
from hero_ray.store.records import RunRow

SIGMAS = 3.0
FEWEST = 4
"""Runs below which limits would mean nothing."""


@dataclass(frozen=True)
class ControlLimits:
    """Where a cell's score usually lies."""

    centre: float
    low: float
    high: float

    def state(self, value: float) -> str:
        """`low`, `high` or `usual`."""
        return "low" if value < self.low else "high" if value > self.high else "usual"


def control_limits(values: Sequence[float], half_intervals: Sequence[float | None] = ()) -> ControlLimits | None:
    """Median plus or minus three sigmas; None for too few values.

    Sigma is the scaled median absolute deviation, which one bad night does not widen. A deterministic sweep repeats
    its score exactly, so sigma is never below a tenth of the score's own standard error.
    """
    if len(values) < FEWEST:
        return None
    centre = median(values)
    spread = 1.4826 * median([abs(value - centre) for value in values])
    halves = [half for half in half_intervals if half is not None]
    floor = median(halves) / 1.96 / 10 if halves else 0.0
    sigma = max(spread, floor)
    return ControlLimits(centre, centre - SIGMAS * sigma, centre + SIGMAS * sigma)


@dataclass(frozen=True)
class Trend:
    """One configuration on one benchmark over the runs of a sweep, scores on 0 to 100."""

    key: str
    method: str
    label: str
    benchmark: str
    rows: tuple[TrendRow, ...]

    @property
    def values(self) -> list[float]:
        return [100 * row.value / row.scale for row in self.rows]

    @property
    def limits(self) -> ControlLimits | None:
        halves = [
            None if row.ci_low is None or row.ci_high is None else 50 * (row.ci_high - row.ci_low) / row.scale
            for row in self.rows
        ]
        return control_limits(self.values, halves)

    @property
    def outside(self) -> list[TrendRow]:
        """Runs beyond the limits."""
        limits = self.limits
        pairs = zip(self.rows, self.values, strict=True)
        return [row for row, value in pairs if limits is not None and limits.state(value) != "usual"]


def trends(rows: Sequence[TrendRow]) -> list[Trend]:
    """Rows grouped into lines that keep their identity when a code version gives the cell a new id."""
    keyed: dict[str, list[TrendRow]] = {}
    names = dict(zip(map(id, rows), _names(rows), strict=True))
    for row in rows:
        keyed.setdefault(f"{names[id(row)]} | {row.benchmark}", []).append(row)
    return [
        Trend(key, members[0].method, names[id(members[0])], members[0].benchmark, tuple(members))
        for key, members in sorted(keyed.items(), key=lambda item: _order(item[1][0], item[0]))
    ]


def _order(row: TrendRow, key: str) -> tuple[Any, ...]:
    return (palette.rank(row.method), row.benchmark, -row.retention_ratio, key)


def _names(rows: Sequence[TrendRow]) -> list[str]:
    several, names = len({row.model for row in rows}) > 1, name_all(rows)
    return [
        (f"{row.model} " if several else "") + f"{name.series} {name.budget}{seed}"
        for row, name, seed in zip(rows, names, seeds_told(rows, names), strict=True)
    ]


def trend_chart(trend: Trend, alerted: frozenset[str] = frozenset()) -> go.Figure:
    """Score per run with its interval, the control limits, and a cross on every run outside them or with an alert."""
    look = palette.look(trend.method, trend.rows[0].straw_man)
    times, values = [row.created_at for row in trend.rows], trend.values
    high = [0.0 if r.ci_high is None else 100 * (r.ci_high - r.value) / r.scale for r in trend.rows]
    low = [0.0 if r.ci_low is None else 100 * (r.value - r.ci_low) / r.scale for r in trend.rows]
    figure = go.Figure()
    limits = trend.limits
    if limits is not None:
        figure.add_hrect(y0=limits.low, y1=limits.high, fillcolor="rgba(128,132,140,.14)", line_width=0)
        figure.add_hline(y=limits.centre, line={"color": NEUTRAL, "dash": "dash", "width": 1})
    figure.add_trace(
        go.Scatter(
            name=trend.label,
            x=times,
            y=values,
            error_y={"type": "data", "symmetric": False, "array": high, "arrayminus": low, "thickness": 1, "width": 3},
            mode="lines+markers",
            line={"color": look.colour},
            marker={"symbol": look.symbol, "size": 9},
            customdata=[[row.run_id, f"{row.n:,}"] for row in trend.rows],
            hovertemplate="%{x|%d %b %Y %H:%M}<br>%{y:.1f}<br>%{customdata[0]}<br>n = %{customdata[1]}<extra></extra>",
        )
    )
    outside = {row.run_id for row in trend.outside} | alerted
    marked = [(t, v) for t, v, row in zip(times, values, trend.rows, strict=True) if row.run_id in outside]
    if marked:
        x, y = zip(*marked, strict=True)
        ring = {"symbol": "circle-open", "size": 20, "color": "#D7263D", "line": {"width": 2.5}}
        figure.add_trace(go.Scatter(name="look here", x=x, y=y, mode="markers", marker=ring, hoverinfo="skip"))
    return style(figure, 320, yaxis_title="score", showlegend=False)


def what_changed(before: RunRow, after: RunRow) -> list[tuple[str, str, str]]:
    """(what, before, after) for every fact that differs between two runs: commit, configuration, versions, hardware."""
    facts = [_facts(before), _facts(after)]
    names = sorted(facts[0].keys() | facts[1].keys())
    found = [(name, *(str(fact.get(name, "absent")) for fact in facts)) for name in names]
    return [(name, old, new) for name, old, new in found if old != new]


def _facts(run: RunRow) -> dict[str, Any]:
    facts: dict[str, Any] = {"commit": run.git_commit or "unknown"}
    for prefix, tree in (("", run.environment), ("config: ", run.config)):
        facts |= {f"{prefix}{name}": value for name, value in _flat(tree).items()}
    return facts


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name} ")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
