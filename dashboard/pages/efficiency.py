"""Efficiency: what pruning costs and saves in time and memory, always under one certificate."""

from __future__ import annotations

import streamlit as st

from dashboard import figures, filters, loaders, profiles, speed_figures
from dashboard.loaders import plain
from dashboard.profiles import Conditions
from hero_ray.results import published
from hero_ray.results.axes import AXES
from hero_ray.results.load import is_load
from hero_ray.results.names import FULL
from hero_ray.results.shown import palette


def main() -> None:
    """Conditions, table, stages, break-even, batches, roofline, certificate, printed figures."""
    st.title("Efficiency")
    runs = filters.pick_runs()
    rows = loaders.load("profiles", filters.ids(runs))
    groups = profiles.conditions([row for row in rows if not is_load(row)])
    if groups:
        _measured(groups, filters.ids(runs))
    else:
        st.info("These runs hold no speed figures. A sweep's profile pass, or `hero-ray profile`, takes them.")
    _printed()


def _measured(groups: list[Conditions], ids: tuple[str, ...]) -> None:
    chosen = filters.conditions(groups)
    left, right = st.columns([1, 2])
    with left:
        batch = int(filters.choose("Requests at once", chosen.batch_sizes, "batch"))
    rows = chosen.at(batch)
    with right:
        budgets = list(dict.fromkeys(row["budget"] for row in rows if row["method"] != FULL))
        near = min(budgets, key=lambda name: abs(_ratio(name, rows) - 0.2), default="all")
        budget = filters.choose("Budget in the charts", ["all", *budgets], "budget", near)
    _table(rows, ids)
    shown = [row for row in rows if budget == "all" or row["budget"] == budget or row["method"] == FULL]
    _card(chosen)
    one, two = st.columns(2)
    with one:
        _stages(shown)
    with two:
        _break_even(shown)
    one, two = st.columns(2)
    with one:
        _batches([row for row in chosen.rows if budget == "all" or row["budget"] == budget or row["method"] == FULL])
    with two:
        _roofline(shown)


def _table(rows: list[profiles.Row], ids: tuple[str, ...]) -> None:
    """Cost columns of one's choice, in the units in which Frontier and Compare show this model."""
    own = next((each for each in loaders.results(ids, rows[0]["model"]) if each.marks()), None)
    units = [own.unit(AXES[name]) for name in ("flops", "kv")] if own is not None else []
    lines = profiles.table_rows(rows, *units)
    columns = [name for name in lines[0] if name not in ("Method", "Budget")]
    shown = filters.several("Columns", columns, "columns", columns[: profiles.USUAL])
    st.dataframe([{name: line[name] for name in ("Method", "Budget", *shown)} for line in lines], hide_index=True)
    st.caption(
        "Means and medians over the few pictures that were timed: tokens and costs differ from those on other pages, "
        "which are means over every picture of a benchmark and hold the answer's decoding too. A click on a column's "
        "head sorts."
    )


def _ratio(budget: str, rows: list[profiles.Row]) -> float:
    return next(float(row["retention_ratio"]) for row in rows if row["budget"] == budget)


def _card(chosen: Conditions) -> None:
    with st.container(border=True):
        st.markdown(f"**Certificate** · {plain(chosen.model)}")
        st.caption(plain(" · ".join(f"{title}: {value}" for title, value in chosen.card())) or "nothing recorded")


def _stages(rows: list[profiles.Row]) -> None:
    st.header("Where the time goes")
    figure = speed_figures.stage_bars(rows[:40])
    st.plotly_chart(figure, config=figures.CONFIG, key="stages", alt="Milliseconds per stage, method and budget")


def _break_even(rows: list[profiles.Row]) -> None:
    st.header("When does it pay?")
    full = next((row for row in rows if row["method"] == FULL), None)
    others = [row for row in rows if row["method"] != FULL]
    if full is None or not others:
        st.info("The break-even chart needs the unpruned model and one other method under the same conditions.")
        return
    others = sorted(others, key=lambda row: (palette.look(row["method"]).muted, palette.rank(row["method"])))[:16]
    figure = speed_figures.break_even(full, others)
    st.plotly_chart(figure, config=figures.CONFIG, key="breakeven", alt="Time won over the unpruned model")
    st.caption("Above zero a method is faster than the unpruned model, its own capturing and scoring included.")


def _batches(rows: list[profiles.Row]) -> None:
    if len({row["batch_size"] for row in rows}) < 2:
        return
    st.header("More requests at once")
    figure = speed_figures.batch_sweep(rows)
    st.plotly_chart(figure, config=figures.CONFIG, key="batches", alt="Tokens per second over the batch size")


def _roofline(rows: list[profiles.Row]) -> None:
    measured = [row for row in rows if speed_figures.has_roofline(row)]
    if not measured:
        return
    st.header("Roofline")
    figure = speed_figures.roofline(measured[:16])
    st.plotly_chart(figure, config=figures.CONFIG, key="roofline", alt="FLOP/s over arithmetic intensity")
    st.caption("Filled: prefill. Hollow: decode. Traffic is the least a phase can do with (weights and cache once).")


def _printed() -> None:
    with st.expander("What the papers print (other machines, never on our axes)"):
        names = {
            "paper": "Paper",
            "table": "Table",
            "model": "Model",
            "method": "Method",
            "budget": "Kept",
            "tokens": "Tokens",
            "tflops": "TFLOPs",
            "tflops_recomputed": "TFLOPs, recomputed",
            "kv_cache_mb": "KV cache, MiB",
            "kv_mib_model": "KV cache of the real heads, MiB",
            "gpu_memory_gb": "GPU memory, GB",
            "decode_tokens_per_s": "Decode, tokens/s",
            "hardware": "Hardware",
            "note": "Note",
        }
        rows = published.efficiency()
        st.dataframe([{title: row[key] for key, title in names.items()} for row in rows], hide_index=True)


with loaders.guard():
    main()
