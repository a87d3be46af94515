"""Frontier: accuracy against a cost, with intervals and the Pareto line; a click opens the cell."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import figures, filters, loaders, printed
from hero_ray.results.shown import palette, points
from hero_ray.results.shown.points import AXES, Mark

AVERAGE = "average"
NOTE = "Figures on embedded models show the tool at work; they are no evidence about methods on real models."


def main() -> None:
    """Filters, one chart per model (and per certificate on speed axes), the clicked cell."""
    st.title("Frontier")
    runs = filters.pick_runs()
    everything: list[Mark] = loaders.load("marks", filters.ids(runs), None, None)
    if not everything:
        filters.nothing_measured(runs)
    marks, title, benchmark = _scores(filters.ids(runs), everything)
    axis = AXES[_axis(marks)]
    marks = _chosen(marks)
    overlay, log_x = _looks()
    extra = printed.overlay(axis.key, benchmark) if overlay else []
    if overlay:
        _about_overlay(extra, benchmark)
    _charts(marks, axis, title, extra, log_x)
    if any(mark.model.startswith("hero-tiny") for mark in marks):
        st.caption(NOTE)


def _scores(run_ids: tuple[str, ...], everything: list[Mark]) -> tuple[list[Mark], str, str | None]:
    """Marks of the chosen benchmark, metric and category; benchmark None for the average."""
    benchmarks = list(dict.fromkeys(mark.benchmark for mark in everything))
    with_full = any(mark.method == points.FULL for mark in everything) and len(benchmarks) > 1
    options = ([AVERAGE] if with_full else []) + benchmarks
    left, middle, right = st.columns(3)
    with left:
        names = {AVERAGE: "Average share of the unpruned score"}
        benchmark = filters.choose("Score", options, "benchmark", format_func=lambda name: names.get(name, name))
    if benchmark == AVERAGE:
        return points.retention_average(everything), "Share of the unpruned score, %", None
    metrics = loaders.load("metric_names", run_ids).get(benchmark, [])
    with middle:
        metric = filters.choose("Metric", metrics, "metric") if len(metrics) > 1 else (metrics or [None])[0]
    categories = ["all", *loaders.load("categories", benchmark)]
    with right:
        category = filters.choose("Category", categories, "category") if len(categories) > 2 else "all"
    wanted = metric if metrics and metric != metrics[0] else None
    if category != "all":
        found = loaders.load("category_marks", run_ids, benchmark, category, metric)
        return found, f"{benchmark}, {category}: {metric}", benchmark
    return loaders.load("marks", run_ids, wanted, (benchmark,)), f"{benchmark}: {metric}", benchmark


def _axis(marks: list[Mark]) -> str:
    measured = [key for key in AXES if any(mark.costs.get(key) is not None for mark in marks)]
    short = {
        "tokens": "Tokens",
        "equivalent": "Equivalent tokens",
        "share": "Ratio",
        "flops": "FLOPs",
        "kv": "KV cache",
        "ttft": "TTFT",
        "decode": "Decode speed",
        "memory": "Memory",
    }
    return filters.toggle("Cost", measured or ["share"], "cost", lambda key: short[key])


def _chosen(marks: list[Mark]) -> list[Mark]:
    models = list(dict.fromkeys(mark.model for mark in marks))
    methods = sorted({mark.method for mark in marks}, key=palette.rank)
    with st.sidebar:
        if len(models) > 1:
            models = filters.several("Models", models, "model")
        methods = filters.several("Methods", methods, "method")
    return [mark for mark in marks if mark.model in models and mark.method in methods]


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


def _charts(marks: list[Mark], axis: points.Axis, title: str, extra: list[dict[str, Any]], log_x: bool) -> None:
    if not marks:
        st.info("Nothing is left to draw. Choose at least one model and one method in the sidebar.")
        return
    models = list(dict.fromkeys(mark.model for mark in marks))
    charts = []
    for model in models:
        groups = points.by_certificate([mark for mark in marks if mark.model == model], axis)
        charts += [(model, certificate, members) for certificate, members in groups]
    if axis.speed:
        _why_apart(charts, marks, axis)
    columns = st.columns(min(2, len(charts))) if len(charts) > 1 else [st.container()]
    for i, (model, certificate, members) in enumerate(charts):
        with columns[i % len(columns)]:
            _chart(model, certificate, members, axis, title, extra, log_x)
    if not charts:
        st.info("No cell has this cost. Speeds come from the profile pass of a sweep (`hero-ray sweep`, or `profile`).")


def _why_apart(charts: list[tuple[str, str | None, list[Mark]]], marks: list[Mark], axis: points.Axis) -> None:
    shown = {certificate for _, certificate, _ in charts}
    missing = sum(mark.costs.get(axis.key) is None for mark in marks)
    if len(shown) > 1:
        known = [_certificate(members[0]) for _, _, members in charts]
        differing = points.differing_conditions([certificate for certificate in known if certificate])
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
    model: str,
    certificate: str | None,
    members: list[Mark],
    axis: points.Axis,
    title: str,
    extra: list[dict[str, Any]],
    log_x: bool,
) -> None:
    st.subheader(model)
    if certificate is not None:
        conditions = _certificate(members[0])
        st.caption(f"{conditions.get('device_name', 'unknown device')}, {conditions.get('dtype', '')}")
    best = points.best(points.place(members, axis))
    figure = figures.frontier(members, axis, title, best, extra, log_x)
    key = f"chart-{model}-{certificate}"
    line = _pareto_line([members[i] for i in best])
    st.markdown(f"On the Pareto line, cheapest first: {line}.")  # read long before a browser has drawn the chart
    event = st.plotly_chart(
        figure,
        key=key,
        on_select="rerun",
        selection_mode="points",
        config=figures.CONFIG,
        alt=f"{len(members)} points; on the Pareto line: {line}",
    )
    clicked = _clicked(event, members)
    if clicked is not None:
        _cell(clicked)
    else:
        st.caption("Bars and band: 95 % intervals. Click a point to open its cell.")


def _pareto_line(members: list[Mark], shown: int = 12) -> str:
    """Marks of the line in words, with their scores."""
    words = [f"{mark.series} at {mark.budget} ({mark.value:.1f})" for mark in members[:shown]]
    more = [f"and {len(members) - shown} more"] if len(members) > shown else []
    return ", ".join(words + more)


def _clicked(event: Any, members: list[Mark]) -> Mark | None:
    chosen = [point for point in event.selection.points if len(point.get("customdata") or []) == 5]
    if not chosen:
        return None
    cell = tuple(chosen[0]["customdata"][3:5])
    return next((mark for mark in members if mark.cells[0] == cell), None)


def _cell(mark: Mark) -> None:
    with st.container(border=True):
        st.markdown(f"**{mark.series} at {mark.budget}** on {mark.benchmark or 'all benchmarks'}, {mark.model}")
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
