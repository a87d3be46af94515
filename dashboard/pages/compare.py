"""Compare: the papers' table, paired differences with corrected p values, and where a method wins or loses."""

from __future__ import annotations

import streamlit as st

from dashboard import figures, filters, loaders
from dashboard.loaders import plain
from hero_ray.results.averages import averages, flagged
from hero_ray.results.axes import AXES
from hero_ray.results.comparisons import Comparison, compare_labels
from hero_ray.results.contenders import Results
from hero_ray.results.marks import Mark, unpruned
from hero_ray.results.names import FULL
from hero_ray.results.report.figures import p_value
from hero_ray.results.shown import palette, tables
from hero_ray.results.ties import Ties

BY_BUDGET = "budgets, then methods"


def main() -> None:
    """Table with downloads, then differences from one baseline as a heatmap and a table."""
    st.title("Compare")
    runs = filters.pick_runs()
    ids = filters.ids(runs)
    marks: list[Mark] = loaders.load("marks", ids, None, None, "")
    if not marks:
        filters.nothing_measured(runs)
    marks = _chosen(marks)
    if not marks:
        st.info("Nothing is left to compare. Choose at least one model, benchmark and method in the sidebar.")
        st.stop()
    _table(ids, marks)
    _differences(ids, marks)


def _chosen(marks: list[Mark]) -> list[Mark]:
    models = list(dict.fromkeys(mark.model for mark in marks))
    benchmarks = list(dict.fromkeys(mark.benchmark for mark in marks))
    methods = sorted({mark.method for mark in marks}, key=palette.rank)
    with st.sidebar:
        model = filters.choose("Model", models, "model_one") if len(models) > 1 else models[0]
        benchmarks = filters.several("Benchmarks", benchmarks, "benchmarks")
        methods = filters.several("Methods", methods, "method")
    return [m for m in marks if m.model == model and m.benchmark in benchmarks and m.method in methods]


def _table(ids: tuple[str, ...], marks: list[Mark]) -> None:
    shown = marks
    if len(marks) > 1200:
        st.caption(f"{len(marks):,} figures: the table shows the first 1,200. Narrow it down in the sidebar.")
        shown = marks[:1200]
    (own,), benchmarks = loaders.results(ids, shown[0].model), _benchmarks(shown)
    left, right = st.columns([3, 1])
    with left:
        costs = _costs(own)
    full = unpruned(own.marks())  # also where the filter leaves the unpruned model out
    below = Ties(own, tuple(benchmarks)).below
    flags = flagged(own, benchmarks)
    table = tables.method_table(shown, averages(own, benchmarks), flags, own.unit, costs, full, below)
    with right:
        order = filters.choose("Best first in", [BY_BUDGET, *table.columns], "sort")
    if order != BY_BUDGET:
        table = tables.sorted_by(table, order)
    st.html(f"<style>{tables.CSS}</style>{tables.to_html(table)}")
    st.caption(plain(" ".join(table.notes)))
    left, right, _ = st.columns([1, 1, 3])
    left.download_button("Download LaTeX", tables.to_latex(table), "table.tex", "text/x-tex", width="stretch")
    right.download_button("Download CSV", tables.to_csv(table), "table.csv", "text/csv", width="stretch")


def _costs(own: Results) -> list[str]:
    """Names of the cost columns, in the order of the axes."""
    marks = own.marks()
    known = [key for key in AXES if any(mark.costs[key] is not None for mark in marks)]
    usual = [key for key in tables.COSTS if key in known]
    return filters.several("Cost columns", known, "costs", usual, format_func=lambda key: AXES[key].short)


def _benchmarks(marks: list[Mark]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mark.benchmark for mark in marks))


def _differences(ids: tuple[str, ...], marks: list[Mark]) -> None:
    st.header("Paired differences")
    pruned = [mark for mark in marks if mark.method != FULL]
    ratios = {mark.name.budget: mark.retention_ratio for mark in pruned}
    if not ratios:
        st.info("There is nothing beside the unpruned model to compare it with.")
        return
    left, right = st.columns(2)
    with left:
        budget = filters.choose("Budget", sorted(ratios, key=lambda name: -ratios[name]), "budget")
    members = {mark.name.series: mark.name.key for mark in pruned if mark.name.budget == budget}
    rivals = {FULL: FULL} | members if len(pruned) < len(marks) else members
    with right:
        start = next((name for name in ("random", FULL) if name in rivals), next(iter(rivals)))
        baseline = filters.choose("Compared with", list(rivals), "baseline", start)
    (own,) = loaders.results(ids, marks[0].model)
    with st.spinner("Testing pairs …"):
        rows = compare_labels(own, tuple(members.values()), rivals[baseline], _benchmarks(marks))
    if not rows:
        st.info("These cells share no answered sample, so no pair can be tested.")
        return
    names = {key: series for series, key in members.items()}
    _heatmap(rows, names)
    st.caption(
        f"Points of 100 won over {plain(baseline)} at {budget} on the samples both answered. * p < 0.05 after Holm's "
        f"correction over the {len(rows)} differences shown. Intervals are clustered by picture, at the level at which "
        "Holm judged each difference."
    )
    st.dataframe([_line(row, names) for row in rows], hide_index=True)


def _heatmap(rows: list[Comparison], names: dict[str, str]) -> None:
    benchmarks = list(dict.fromkeys(row.benchmark for row in rows))
    found = {(row.label, row.benchmark): row for row in rows}
    labels = list(dict.fromkeys(row.label for row in rows))
    lines = [[found.get((label, name)) for name in benchmarks] for label in labels]
    values = [[None if row is None else row.points for row in line] for line in lines]
    texts = [["" if row is None else f"{row.points:+.1f}{'*' * (row.p_holm < 0.05)}" for row in line] for line in lines]
    figure = figures.heatmap([names[label] for label in labels], benchmarks, values, texts)
    st.plotly_chart(figure, config=figures.CONFIG, key="heatmap", alt="Differences from the baseline by benchmark")


def _line(row: Comparison, names: dict[str, str]) -> dict[str, object]:
    paired = row.paired
    bounds = [100 * bound / row.unit for bound in (paired.low, paired.high) if bound is not None]
    return {
        "method": names[row.label],
        "benchmark": row.benchmark,
        "difference": f"{row.points:+.1f}",
        "interval": " to ".join(f"{bound:+.1f}" for bound in bounds) + f" ({100 * row.level:.4g} %)",
        "p (Holm)": p_value(row.p_holm),
        "verdict": row.verdict,
        "wins": paired.wins,
        "losses": paired.losses,
        "pairs": paired.n,
        "missing": "{} / {}".format(*row.missing),
        "p": p_value(paired.p_value),
        "test": paired.test,
    }


with loaders.guard():
    main()
