"""Compare: the papers' table, paired differences with corrected p values, and where a method wins or loses."""

from __future__ import annotations

import streamlit as st

from dashboard import figures, filters, loaders
from hero_ray.results.shown import differences, palette, tables
from hero_ray.results.shown.differences import Difference
from hero_ray.results.shown.points import FULL, Mark


def main() -> None:
    """Table with downloads, then differences from one baseline as a heatmap and a table."""
    st.title("Compare")
    runs = filters.pick_runs()
    marks: list[Mark] = loaders.load("marks", filters.ids(runs), None, None)
    if not marks:
        filters.nothing_measured(runs)
    marks = _chosen(marks)
    if not marks:
        st.info("Nothing is left to compare. Choose at least one model, benchmark and method in the sidebar.")
        st.stop()
    _table(marks)
    _differences(marks)


def _chosen(marks: list[Mark]) -> list[Mark]:
    models = list(dict.fromkeys(mark.model for mark in marks))
    benchmarks = list(dict.fromkeys(mark.benchmark for mark in marks))
    methods = sorted({mark.method for mark in marks}, key=palette.rank)
    with st.sidebar:
        model = filters.choose("Model", models, "model_one") if len(models) > 1 else models[0]
        benchmarks = filters.several("Benchmarks", benchmarks, "benchmarks")
        methods = filters.several("Methods", methods, "method")
    return [m for m in marks if m.model == model and m.benchmark in benchmarks and m.method in methods]


def _table(marks: list[Mark]) -> None:
    shown = marks
    if len(marks) > 1200:
        st.caption(f"{len(marks):,} figures: the table shows the first 1,200. Narrow it down in the sidebar.")
        shown = marks[:1200]
    table = tables.method_table(shown)
    st.html(f"<style>{tables.CSS}</style>{tables.to_html(table)}")
    st.caption(" ".join(table.notes))
    left, right, _ = st.columns([1, 1, 3])
    left.download_button("Download LaTeX", tables.to_latex(table), "table.tex", "text/x-tex", width="stretch")
    right.download_button("Download CSV", tables.to_csv(table), "table.csv", "text/csv", width="stretch")


def _differences(marks: list[Mark]) -> None:
    st.subheader("Paired differences")
    budgets = sorted({mark.budget for mark in marks if mark.method != FULL}, key=lambda text: -_size(text, marks))
    if not budgets:
        st.info("There is nothing beside the unpruned model to compare it with.")
        return
    left, right = st.columns(2)
    with left:
        budget = filters.choose("Budget", budgets, "budget")
    members = [mark for mark in marks if mark.budget == budget and mark.method != FULL]
    with right:
        series = list(dict.fromkeys(mark.series for mark in members))
        names = ([FULL] if any(mark.method == FULL for mark in marks) else []) + series
        start = next((name for name in ("random", FULL) if name in names), names[0])
        baseline = filters.choose("Compared with", names, "baseline", start)
    base = [m for m in marks if m.series == baseline and (m.budget == budget or m.method == FULL)]
    rows = _tested(tuple(members), tuple(base))
    if not rows:
        st.info("These cells share no answered sample, so no pair can be tested.")
        return
    _heatmap(rows)
    st.caption(
        f"Points of 100 won over {baseline} at {budget} on the samples both answered. * p < 0.05 after Holm's "
        f"correction over the {len(rows)} differences shown. Intervals are clustered by picture and not corrected."
    )
    st.dataframe([_line(row) for row in rows], hide_index=True)


def _size(budget: str, marks: list[Mark]) -> float:
    return max(mark.retention_ratio for mark in marks if mark.budget == budget)


@st.cache_data(max_entries=32, show_spinner="Testing pairs …", hash_funcs={Mark: lambda mark: repr(mark.cells)})
def _tested(members: tuple[Mark, ...], base: tuple[Mark, ...]) -> list[Difference]:
    return differences.differences(members, base, lambda run, cell: loaders.load("scores", run, cell))


def _heatmap(rows: list[Difference]) -> None:
    series = list(dict.fromkeys(row.series for row in rows))
    benchmarks = list(dict.fromkeys(row.benchmark for row in rows))
    found = {(row.series, row.benchmark): row for row in rows}
    values = [[found[s, b].value if (s, b) in found else None for b in benchmarks] for s in series]
    texts = [[_star(found.get((s, b))) for b in benchmarks] for s in series]
    figure = figures.heatmap(series, benchmarks, values, texts)
    st.plotly_chart(figure, config=figures.CONFIG, key="heatmap", alt="Differences from the baseline by benchmark")


def _star(row: Difference | None) -> str:
    return "" if row is None else f"{row.value:+.1f}" + ("*" if row.p_holm < 0.05 else "")


def _line(row: Difference) -> dict[str, object]:
    return {
        "method": row.series,
        "benchmark": row.benchmark,
        "difference": round(row.value, 1),
        "95 % interval": "" if row.low is None else f"{row.low:+.1f} to {row.high:+.1f}",
        "p (Holm)": f"{row.p_holm:.3f}",
        "verdict": row.verdict,
        "wins": row.wins,
        "losses": row.losses,
        "pairs": row.pairs,
        "p": f"{row.p:.3f}",
        "test": row.test,
    }


with loaders.guard():
    main()
