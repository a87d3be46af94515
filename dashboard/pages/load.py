"""Load: what every cell does for many clients at once, and where pruning stops paying."""

from __future__ import annotations

import streamlit as st

from dashboard import figures, filters, load_figures, loaders, profiles
from dashboard.loaders import plain
from dashboard.profiles import Conditions
from hero_ray.results.load import is_load

PROFILE = "profile"
"""Name of the runs that `hero-ray profile` and an import of its files leave."""
NEWEST = 50


def main() -> None:
    """Conditions, waiting time and accuracy over throughput, gains, verdicts, every figure."""
    st.title("Load")
    newest = [run.id for run in loaders.runs() if run.sweep_name == PROFILE][:NEWEST]
    rows = [row for row in loaders.load("profiles", tuple(newest)) if is_load(row)] if newest else []
    if not rows:
        st.info(
            "No server has been measured under load yet. `hero-ray profile --clients 1,8,32,64 --methods full,hero "
            "--budgets 0.2` loads one of our own, `--model endpoint:URL` any other."
        )
        return
    rows.sort(key=lambda row: newest.index(row["run_id"]))  # of the same cell measured twice the newer counts
    _shown(filters.conditions(profiles.conditions(rows)))


def _shown(chosen: Conditions) -> None:
    rows = sorted(chosen.rows, key=lambda row: (row["method"] != "full", -row["retention_ratio"], row["label"]))
    with st.container(border=True):
        told = {key: chosen.certificate.get(key) for key in ("benchmark", "questions", "requests", "rounds", "answers")}
        st.markdown(f"**Certificate** · {plain(chosen.model)}")
        load = (f"{name}: {value}" for name, value in told.items() if value is not None)
        st.caption(plain(" · ".join([*(f"{title}: {value}" for title, value in chosen.card()), *load])))
    one, two = st.columns(2)
    with one:
        st.header("How long clients wait")
        chart = load_figures.waiting(rows)
        st.plotly_chart(chart, config=figures.CONFIG, key="waiting", alt="Time to first token over requests a second")
        st.caption("A point per number of clients. Of whole answers the first token comes with the last.")
    with two:
        st.header("What the answers are worth")
        clients = int(filters.choose("Clients", chosen.batch_sizes, "clients", chosen.batch_sizes[-1]))
        chart = load_figures.accuracy([row for row in rows if row["batch_size"] == clients])
        st.plotly_chart(chart, config=figures.CONFIG, key="accuracy", alt="Score over requests a second")
    _gains(rows)
    st.dataframe(load_figures.table_rows(rows), hide_index=True)


def _gains(rows: list[profiles.Row]) -> None:
    st.header("Where does pruning stop paying?")
    lines = load_figures.verdicts(rows)
    if not lines:
        st.info("Gains need the unpruned cell and another one, two rounds of each, and no failed request.")
        return
    titles = {title: name for name, title in load_figures.FIGURES.items()}
    name = titles[filters.toggle("Gain in", list(titles), "gain")]
    chart = load_figures.gains(rows, name)
    st.plotly_chart(chart, config=figures.CONFIG, key="gains", alt="Gain over the unpruned model by number of clients")
    st.caption("Above 1 a cell is better than the first one, 95 % intervals over pairs of rounds that took turns.")
    st.dataframe(lines, hide_index=True)


with loaders.guard():
    main()
