"""Nightly: chosen cells over time with control limits, and what changed where they broke."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from dashboard import figures, filters, loaders, trends
from dashboard.loaders import plain
from dashboard.trends import Trend
from hero_ray.store import RunRow

FEWEST_RUNS = 2
MOST_CHARTS = 8


def main() -> None:
    """Sweep, cells, charts, and the difference between two of its runs."""
    st.title("Nightly")
    found = [run for run in loaders.runs() if run.status != "superseded"]
    counts = Counter(run.sweep_name for run in found)
    repeated = [name for name, count in counts.most_common() if count >= FEWEST_RUNS]
    if not repeated:
        st.info("No sweep has run twice yet. Run one again with `--fresh`, or leave it to the nightly schedule.")
        st.stop()
    repeated.sort(key=lambda name: ("nightly" not in name, -counts[name]))
    sweep = filters.choose("Sweep", repeated, "sweep", format_func=lambda name: f"{name} ({counts[name]} runs)")
    lines = trends.trends(loaders.load("trend", sweep))
    if not lines:
        st.info("None of these runs has a figure yet.")
        st.stop()
    runs = sorted((run for run in found if run.sweep_name == sweep), key=lambda run: run.created_at)
    alerts = _alerts(runs)
    _guard(runs[-1])
    _verdict(lines, alerts)
    chosen = _chosen(lines)
    for start in range(0, len(chosen), 2):
        for column, line in zip(st.columns(2), chosen[start : start + 2], strict=False):
            with column:
                _chart(line, alerts)
    _changes(runs, lines)


def _alerts(runs: list[RunRow]) -> dict[str, set[str]]:
    """Cell id -> runs with an alert on it."""
    known = {run.id for run in runs}
    found: dict[str, set[str]] = {}
    for alert in loaders.load("alerts", None):
        if alert["run_id"] in known and alert["cell_id"] and alert["severity"] != "info":
            found.setdefault(alert["cell_id"], set()).add(alert["run_id"])
    return found


def _guard(newest: RunRow) -> None:
    """What the nightly guard itself said of the newest run; its tests are paired, the limits below are not."""
    for alert in reversed(loaders.load("alerts", newest.id)):
        show = {"info": st.info, "error": st.error}.get(alert["severity"], st.warning)
        show(f"Guard: {plain(alert['message'])}")


def _verdict(lines: list[Trend], alerts: dict[str, set[str]]) -> None:
    newest = max(row.created_at for line in lines for row in line.rows)
    broken = []
    for line in lines:
        last = line.rows[-1]
        limits = line.limits
        low = limits is not None and limits.state(line.values[-1]) == "low"
        if last.created_at == newest and (low or last.run_id in alerts.get(last.cell_id, ())):
            broken.append(f"{line.label} on {line.benchmark} ({line.values[-1]:.1f})")
    if broken:
        shown = "; ".join(broken[:6]) + (f"; and {len(broken) - 6} more" if len(broken) > 6 else "")
        st.error(f"The newest run is below its limits: {plain(shown)}.")
    elif any(line.limits for line in lines):
        st.success("The newest run lies within the limits of the runs before it.")
    else:
        st.caption(f"Control limits appear from {trends.FEWEST} runs on.")


def _chosen(lines: list[Trend]) -> list[Trend]:
    by_key = {line.key: line for line in lines}
    ranked = sorted(by_key, key=lambda key: not by_key[key].outside)
    keys = filters.several("Cells", list(by_key), "cells", ranked[:4], max_selections=MOST_CHARTS)
    return [by_key[key] for key in keys]


def _chart(line: Trend, alerts: dict[str, set[str]]) -> None:
    st.markdown(f"**{plain(line.label)}** on {plain(line.benchmark)}")
    alerted = frozenset(run for row in line.rows for run in alerts.get(row.cell_id, ()))
    figure = trends.trend_chart(line, alerted)
    alt = f"{line.label} on {line.benchmark} over {len(line.rows)} runs, last {line.values[-1]:.1f}"
    st.plotly_chart(figure, config=figures.CONFIG, key=f"trend-{line.key}", alt=alt)


def _changes(runs: list[RunRow], lines: list[Trend]) -> None:
    st.header("What changed")
    by_id = {run.id: run for run in runs}
    broken = [row.run_id for line in lines for row in line.outside if row.run_id in by_id]
    newest = broken[-1] if broken else runs[-1].id
    ids = list(by_id)
    before = ids[max(0, ids.index(newest) - 1)]
    left, right = st.columns(2)
    with left:
        old = filters.choose_run("From", by_id, "from", before)
    with right:
        new = filters.choose_run("To", by_id, "to", newest)
    changes = trends.what_changed(by_id[old], by_id[new])
    if changes:
        st.dataframe([{"what": what, "before": a, "after": b} for what, a, b in changes], hide_index=True)
    else:
        st.caption("Commit, configuration, versions and hardware are the same in both.")


with loaders.guard():
    main()
