"""Search: questions and answers by a text in them; one question opens with what every cell answered to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import filters, loaders, samples
from hero_ray.results.names import name_all, seeds_told
from hero_ray.results.shown import palette
from hero_ray.store import CellRow, searching
from hero_ray.store.searching import Hit

WHERE = ("answers", "questions")
MOST = 200


def main() -> None:
    """A text and where to look for it; the hits; the one that is open."""
    st.title("Search")
    runs = filters.pick_runs()
    ids = filters.ids(runs)
    cells = [cell for run in ids for cell in loaders.load("cells", run)]
    text, where, benchmark = _asked(cells)
    if not text:
        st.info("Write a word or a part of one, as in “red”, and press Enter.")
        st.stop()
    with st.spinner("Looking …"):
        hits: list[Hit] = loaders.load("hits", where, ids, text, benchmark, MOST)
    if not hits:
        st.info(f"None of the {where} holds this text.")
        st.stop()
    more = f", the first {MOST:,}" if len(hits) == MOST else ""
    st.header(f"{len(hits):,} {where}{more}")
    st.dataframe(
        [_line(at, hit) for at, hit in enumerate(hits, 1)], hide_index=True, height=min(36 * len(hits) + 40, 320)
    )
    if where == "answers":
        st.caption("Equal answers to one question are one line: in how many cells, and the mean of their scores.")
    _open(hits[samples.stepper(len(hits), "Open line") - 1], ids, cells)


def _asked(cells: Sequence[CellRow]) -> tuple[str, str, str | None]:
    left, middle, right = st.columns([3, 2, 2])
    with left:
        text = st.text_input("Text", key="text", bind="query-params", max_chars=200).strip()
    with middle:
        where = filters.toggle("In", WHERE, "in")
    with right:
        benchmarks = list(dict.fromkeys(cell.benchmark for cell in cells))
        benchmark = filters.choose("Benchmark", ["all", *benchmarks], "on")
    return text, where, None if benchmark == "all" else benchmark


def _line(at: int, hit: Hit) -> dict[str, Any]:
    line: dict[str, Any] = {"line": at, "benchmark": hit.benchmark, "question": hit.question}
    if hit.cells:
        line |= {
            "answer": hit.text,
            "cells": hit.cells,
            "mean score": None if hit.score is None else round(hit.score, 2),
        }
    return line | {"sample": hit.sample_key}


def _open(hit: Hit, run_ids: tuple[str, ...], cells: Sequence[CellRow]) -> None:
    sample = samples.load(hit.sample_id)
    if sample is None:
        st.warning("This sample is no longer in the database.")
        return
    samples.question(sample, told=True)
    left, right = st.columns([2, 3])
    with left:
        samples.picture(sample)
    rows = _answers(hit.sample_id, run_ids, cells)
    with right:
        if rows:
            st.dataframe(rows, hide_index=True)
        else:
            st.info("No cell of the chosen runs was asked this question.")


def _answers(sample_id: str, run_ids: tuple[str, ...], cells: Sequence[CellRow]) -> list[dict[str, Any]]:
    """What each cell said, in the order of legends and tables."""
    names = name_all(cells)
    told = {
        (cell.run_id, cell.id): (cell, f"{name}{seed}")
        for cell, name, seed in zip(cells, names, seeds_told(cells, names), strict=True)
    }
    found = [(*told[row.run_id, row.cell_id], row) for row in loaders.read(searching.given, sample_id, run_ids)]
    found.sort(key=lambda each: (each[0].model, palette.rank(each[0].method), -each[0].retention_ratio, each[1]))
    several = len({cell.model for cell, *_ in found}) > 1
    return [
        ({"model": cell.model} if several else {})
        | {
            "cell": name if len(run_ids) == 1 else filters.in_run(name, cell.run_id),
            "answer": row.text if row.error_type is None else f"{row.error_type}: {row.error_message}",
            "score": row.score,
            "tokens": row.n_visual_llm,
        }
        for cell, name, row in found
    ]


with loaders.guard():
    main()
