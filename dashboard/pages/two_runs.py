"""Two runs: what was asked for differently, which cells they share, how the scores moved, and where answers flipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import filters, loaders, samples
from dashboard.loaders import plain
from hero_ray.results import two_runs
from hero_ray.results.two_runs import CellPair, Difference
from hero_ray.store import RunRow

STATES = ("all", "moved", two_runs.SAME, two_runs.CHANGED, two_runs.ONLY_A, two_runs.ONLY_B)


def main() -> None:
    """Choose two runs; their differences from the outside in: configuration, surroundings, cells, one cell's flips."""
    st.title("Two runs")
    found = loaders.runs()
    if len(found) < 2:
        st.info("This page compares two runs, and the database holds fewer.")
        st.write("Take another database's runs in with `hero-ray db merge OTHER.db`, or run another sweep.")
        st.stop()
    a, b = _chosen(found)
    if a.id == b.id:
        st.info("A and B are the same run. Choose another one.")
        st.stop()
    _entries("Asked for differently", two_runs.asked(a, b), "Both runs asked for the same.")
    _entries("Measured on", two_runs.measured_on(a, b), "Same code, packages and machine.")
    pairs: list[CellPair] = loaders.load("two_runs", a.id, b.id)
    _cells(pairs)
    _one(a, b, [pair for pair in pairs if pair.counts is not None])


def _chosen(found: Sequence[RunRow]) -> tuple[RunRow, RunRow]:
    by_id = {run.id: run for run in found}
    ids = list(by_id)
    picked = []
    for column, letter, start in zip(st.columns(2), "AB", (ids[1], ids[0]), strict=True):
        with column:
            run = by_id[filters.choose_run(letter, by_id, f"run_{letter.lower()}", start)]
            said = [run.status, run.name, *(f"#{tag}" for tag in run.tags)]
            st.caption(plain(" · ".join(part for part in said if part)))
            picked.append(run)
    return picked[0], picked[1]


def _entries(title: str, found: Sequence[Difference], none: str) -> None:
    st.header(title)
    if not found:
        st.write(none)
        return
    st.dataframe([{"entry": one.key, "A": one.a, "B": one.b} for one in found], hide_index=True)


def moved(pair: CellPair) -> bool:
    """Whether a cell's score, or the answer to any question, changed its worth between the runs."""
    flipped = pair.counts is not None and pair.counts.better + pair.counts.worse > 0
    return flipped or bool(pair.points)


def _cells(pairs: Sequence[CellPair]) -> None:
    st.header("Cells")
    counts = {state: sum(pair.state == state for pair in pairs) for state in STATES[2:]}
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    st.write(f"{told}; {sum(map(moved, pairs)):,} of those in both score differently.")
    state = filters.toggle("Show", STATES, "state")
    shown = [p for p in pairs if state == "all" or p.state == state or (state == "moved" and moved(p))]
    if not shown:
        st.info("No cell is in this state.")
        return
    points = st.column_config.NumberColumn(format="%.1f")
    st.dataframe([_line(pair) for pair in shown], hide_index=True, column_config={"A": points, "B": points})
    st.caption(
        "Scores in points of 100. “Changed”: same method, budget and benchmark, other content (weights, data, code of "
        "the method, prompt). B better, B worse: questions both runs answered that B scores higher or lower than A."
    )


def _line(pair: CellPair) -> dict[str, Any]:
    counts = pair.counts
    return {
        "cell": pair.label,
        "benchmark": pair.benchmark,
        "state": pair.state,
        "A": None if pair.score_a is None else round(pair.score_a, 1),
        "B": None if pair.score_b is None else round(pair.score_b, 1),
        "B - A": f"{pair.points:+.1f}" if pair.points else "" if pair.points is None else "0.0",
        "B better": None if counts is None else counts.better,
        "B worse": None if counts is None else counts.worse,
        "of both": None if counts is None else counts.both,
        "what changed": "; ".join(f"{one.key}: {one.a} to {one.b}" for one in pair.changed),
        "model": pair.model,
    }


def _one(a: RunRow, b: RunRow, pairs: Sequence[CellPair]) -> None:
    """The flips of one cell between the runs, on the Flips page."""
    if not pairs:
        return
    st.header("Flips of one cell")
    names = {
        f"{pair.model}, {pair.benchmark}: {pair.label}": pair for pair in sorted(pairs, key=_flipped, reverse=True)
    }
    pair = names[filters.choose("Cell, most flips first", list(names), "pair")]
    if not _flipped(pair):
        st.write("Every question both runs answered scores the same in both.")
    query = [("run", filters.run_name(a)), ("run", filters.run_name(b)), ("model_one", pair.model)]
    query += [("on", pair.benchmark), ("a", filters.in_run(pair.label, a.id)), ("b", filters.in_run(pair.label, b.id))]
    query += [("direction", "either" if _flipped(pair) else "all samples")]
    samples.link("Open in Flips", "flips", query)


def _flipped(pair: CellPair) -> int:
    return pair.counts.better + pair.counts.worse if pair.counts else 0


with loaders.guard():
    main()
