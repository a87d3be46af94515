"""Frontier: accuracy against a cost, with intervals and the Pareto line; a click opens the cell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from dashboard import figures, filters, first_look, loaders, printed, profiles
from dashboard.loaders import plain
from hero_ray.results.axes import AXES, Axis
from hero_ray.results.frontiers import Frontier
from hero_ray.results.marks import Mark
from hero_ray.results.names import EMBEDDED_NOTE, is_embedded
from hero_ray.results.shown import palette

AVERAGE = "average"
Score = tuple[str | None, str | None, str]
"""Benchmark (None: the average), metric (None: its main one) and category ("": all)."""
Hidden = tuple[tuple[str, ...], tuple[str, ...]]
"""Models and methods that are not to be shown: one that comes while a run goes on is."""


def main() -> None:
    """Filters, one chart per model (and per certificate on speed axes), the clicked cell."""
    st.title("Frontier")
    runs = filters.pick_runs()
    ids = filters.ids(runs)
    everything: list[Mark] = loaders.load("marks", ids, None, None, "")
    if not everything:
        filters.nothing_measured(runs)
    score, title = _score(ids, everything)
    hidden = _hidden(_marks(ids, score))
    _drawn(ids, score, title, hidden, *_looks())


def _marks(ids: tuple[str, ...], score: Score) -> list[Mark]:
    found: list[Mark] = loaders.load("averages", ids) if score[0] is None else loaders.load("marks", ids, *score)
    return found


@st.fragment
def _drawn(ids: tuple[str, ...], score: Score, title: str, hidden: Hidden, overlay: bool, log_x: bool) -> None:
    """What a cost or a cell changes: Streamlit runs, sends and draws this alone when one of them is chosen."""
    with loaders.guard():
        benchmark, (models, methods) = score[0], hidden
        marks = _marks(ids, score)
        axis = AXES[_axis(marks)]
        marks = [mark for mark in marks if mark.model not in models and mark.method not in methods]
        opened = _opened(marks)
        extra = printed.overlay(axis, benchmark) if overlay else []
        if overlay:
            _about_overlay(extra, benchmark)
        charts = loaders.load("charts", ids, axis.name, *score) if marks else []
        units = {each.model: each.unit(axis) for each in loaders.results(ids)}
        asked = (ids, *score, title, hidden, axis.name, overlay, log_x)
        _charts(charts, marks, axis, title, extra, log_x, opened, units, asked)
        if any(is_embedded(mark.model) for mark in marks):
            st.caption(EMBEDDED_NOTE)


def _score(run_ids: tuple[str, ...], everything: list[Mark]) -> tuple[Score, str]:
    """What is scored, and the title of that axis."""
    benchmarks = list(dict.fromkeys(mark.benchmark for mark in everything))
    averaged = len(benchmarks) > 1 and loaders.load("averages", run_ids)
    options = ([AVERAGE] if averaged else []) + benchmarks
    left, middle, right = st.columns(3)
    with left:
        names = {AVERAGE: "Average share of the unpruned score"}
        benchmark = filters.choose("Score", options, "benchmark", format_func=lambda name: names.get(name, name))
    if benchmark == AVERAGE:
        return (None, None, ""), "Share of the unpruned score, %"
    metrics = loaders.load("metric_names", run_ids).get(benchmark, [])
    with middle:
        metric = filters.choose("Metric", metrics, "metric") if len(metrics) > 1 else (metrics or [None])[0]
    categories = ["all", *loaders.load("categories", benchmark)]
    with right:
        category = filters.choose("Category", categories, "category") if len(categories) > 2 else "all"
    wanted = metric if metrics and metric != metrics[0] else None
    if category != "all":
        return (benchmark, wanted, category), f"{benchmark}, {category}: {metric}"
    return (benchmark, wanted, ""), f"{benchmark}: {metric}"


def _axis(marks: list[Mark]) -> str:
    measured = [key for key in AXES if any(mark.costs[key] is not None for mark in marks)]
    return filters.toggle("Cost", measured or ["retention"], "cost", lambda key: AXES[key].short)


def _hidden(marks: list[Mark]) -> Hidden:
    models = list(dict.fromkeys(mark.model for mark in marks))
    methods = sorted({mark.method for mark in marks}, key=palette.rank)
    with st.sidebar:
        shown = filters.several("Models", models, "model") if len(models) > 1 else models
        chosen = filters.several("Methods", methods, "method")
    return tuple(one for one in models if one not in shown), tuple(one for one in methods if one not in chosen)


def _opened(marks: list[Mark]) -> str:
    """The cell that is open, "" for none: chosen here or by a click on its point, and part of the address."""
    names = list(dict.fromkeys(str(mark.name) for mark in marks))
    return filters.choose(
        "Cell", ["", *names], "cell", format_func=lambda name: name or "none; click a point or choose"
    )


def _looks() -> tuple[bool, bool]:
    with st.sidebar:
        overlay = filters.switch("Published points", "published", help="Points printed in papers, as hollow marks.")
        log_x = filters.switch("Logarithmic cost", "log")
    return overlay, log_x


def _about_overlay(extra: list[dict[str, Any]], benchmark: str | None) -> None:
    if not extra:
        what = f"for {benchmark} " if benchmark else ""
        st.info(f"No paper prints points {what}on this axis. Try the ratio, tokens, FLOPs or KV axis.")
        return
    st.caption(
        "Hollow marks are printed in papers and stand for the models they name; hover for the source. "
        "Across models compare them by ratio, not by absolute cost."
    )


def _charts(
    found: list[Frontier],
    marks: list[Mark],
    axis: Axis,
    title: str,
    extra: list[dict[str, Any]],
    log_x: bool,
    opened: str,
    units: Mapping[str, tuple[float, str]],
    asked: tuple[Any, ...],
) -> None:
    """asked: all that the charts depend on besides stored rows."""
    if not marks:
        st.info("Nothing is left to draw. Choose at least one model and one method in the sidebar.")
        return
    shown = {(mark.model, mark.name.key) for mark in marks}
    charts = []
    for chart in found:
        if members := [mark for key, mark in chart.marks.items() if (chart.model, key) in shown]:
            charts.append((chart, members, [mark for mark in chart.line if (chart.model, mark.name.key) in shown]))
    look = first_look.due()
    if axis.measured:
        _why_apart(charts, marks, axis)
    for row in (charts[at : at + 2] for at in range(0, len(charts), 2)):
        columns = st.columns(2) if len(charts) > 1 else [st.container()]
        for column, (chart, members, line) in zip(columns, row, strict=False):
            with column:
                _chart(chart, members, line, axis, title, extra, log_x, opened, units[chart.model], asked, look)
    if not charts:
        st.info("No cell has this cost. Speeds come from the profile pass of a sweep (`hero-ray sweep`, or `profile`).")


def _why_apart(charts: list[tuple[Frontier, list[Mark], list[Mark]]], marks: list[Mark], axis: Axis) -> None:
    shown = {chart.certificate for chart, *_ in charts}
    missing = sum(mark.costs[axis.name] is None for mark in marks)
    if len(shown) > 1:
        known = [_certificate(members[0]) for _, members, _ in charts]
        differing = profiles.differing_conditions([certificate for certificate in known if certificate])
        reason = f" They differ in {'; '.join(differing)}." if differing else ""
        st.warning(
            f"These speeds were measured under {len(shown)} different conditions, so each has its own chart: "
            f"side by side on one axis they would compare machines, not methods.{reason}"
        )
    if missing:
        st.caption(f"{missing} of {len(marks)} points have no profile and are left out on this axis.")


def _certificate(mark: Mark) -> dict[str, Any]:
    run_ids = tuple(sorted({run for run, _ in mark.cells}))
    for row in loaders.load("profiles", run_ids):
        if (row["run_id"], row["cell_id"]) in mark.cells and row["certificate"]:
            return dict(row["certificate"])
    return {}


def _chart(
    chart: Frontier,
    members: list[Mark],
    line: list[Mark],
    axis: Axis,
    title: str,
    extra: list[dict[str, Any]],
    log_x: bool,
    opened: str,
    unit: tuple[float, str],
    asked: tuple[Any, ...],
    look: bool,
) -> None:
    """look: draw a picture too, for a visitor whose browser has yet to start Plotly."""
    st.header(plain(chart.model))
    if chart.certificate is not None:
        conditions = _certificate(members[0])
        st.caption(plain(f"{conditions.get('device_name', 'unknown device')}, {conditions.get('dtype', '')}"))
    figure = loaders.made(
        ("frontier", *asked, chart.model, chart.certificate),
        lambda: figures.frontier(members, axis, title, line, extra, log_x, unit),
    )
    words = _pareto_line(line)
    # Read long before a browser has drawn the chart.
    st.markdown(f"On the Pareto line, cheapest first: {plain(words)}.")
    mark = next((mark for mark in members if str(mark.name) == opened), None)
    left, right = st.columns([3, 2]) if mark is not None else (st.container(), None)
    key = f"chart-{chart.model}-{chart.certificate}"
    shown = [mark.name.key for mark in members]
    with left.container(gap=None, key=f"look-{key}"):
        first_look.show(first_look.picture(chart, shown, unit) if look and not (log_x or extra) else "")
        st.plotly_chart(
            figure,
            key=key,
            on_select=partial(_open, key),
            selection_mode="points",
            config=figures.CONFIG,
            alt=f"{len(members)} points; on the Pareto line: {words}",
        )
    if mark is not None and right is not None:
        with right:
            _cell(mark, chart)
    st.caption("Bars and band: 95 % intervals. A click on a point opens its cell, as the list above does.")


def _pareto_line(members: list[Mark], shown: int = 12) -> str:
    """Marks of the line in words, with their scores."""
    words = [f"{mark.name} ({mark.value:.1f})" for mark in members[:shown]]
    more = [f"and {len(members) - shown} more"] if len(members) > shown else []
    return ", ".join(words + more)


def _open(key: str) -> None:
    """A point was clicked: its cell is the one that is open from now on."""
    event = st.session_state[key]
    chosen = [point for point in event.selection.points if len(point.get("customdata") or []) == 5]
    if chosen:
        st.session_state["cell"] = chosen[0]["customdata"][0]


def _cell(mark: Mark, chart: Frontier) -> None:
    with st.container(border=True):
        where = plain(f"on {mark.benchmark or 'all benchmarks'}, {mark.model}")
        state = chart.states[mark.name.key]
        st.markdown(f"**{plain(str(mark.name))}** {where}: {state}")
        if mark.parts:
            st.dataframe(
                [{"benchmark": name, "% of full": round(value, 1)} for name, value in mark.parts.items()],
                hide_index=True,
            )
        run_id, cell_id = mark.cells[0]
        if not mark.parts:
            rows = loaders.load("metric_categories", run_id, cell_id)
            st.dataframe([_metric(row) for row in rows], hide_index=True)
        spec = {cell.id: cell for cell in loaders.load("cells", run_id)}.get(cell_id)
        if spec is not None:
            with st.expander("Everything behind this cell"):
                st.json({"cell": cell_id, "run": run_id, "expected": spec.n_expected, "spec": dict(spec.spec)})


def _metric(row: Any) -> dict[str, Any]:
    scale = 100 / row.scale
    spread = "" if row.ci_low is None else f"{scale * row.ci_low:.1f} to {scale * row.ci_high:.1f}"
    return {
        "metric": row.metric,
        "category": row.category or "all",
        "value": round(scale * row.value, 1),
        "95 % interval": spread,
        "questions": row.n,
        "pictures": row.n_clusters,
    }


with loaders.guard():
    main()
