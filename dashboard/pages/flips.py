"""Flips: samples on which two cells disagree, one by one with the tokens each of them kept, or many as a grid."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard import filters, loaders, samples
from dashboard.loaders import plain
from hero_ray.results.cards import expected
from hero_ray.results.names import FULL, name_all, seeds_told
from hero_ray.results.shown import palette
from hero_ray.store import CellRow
from hero_ray.store import answers as stored
from hero_ray.store.answers import CellRef
from hero_ray.store.flips import FlipRow

DIRECTIONS = {"worse": "B loses", "better": "B wins", "any": "either", "all": "all samples"}
VIEWS = {"one": "one by one", "grid": "grid"}
# Samples on one page of the grid.
GRID = 12


def main() -> None:
    """Choose two cells, page through their disagreements."""
    st.title("Flips")
    runs = filters.pick_runs()
    cells = [cell for run in runs for cell in loaders.load("cells", run.id) if cell.n_done]
    if len(cells) < 2:
        st.info("Flips compare two cells with answers; the chosen runs hold fewer. Choose another run in the sidebar.")
        st.stop()
    first, second = _pair(cells)
    direction, category, view = _narrow(second.benchmark)
    a, b = CellRef(first.run_id, first.id), CellRef(second.run_id, second.id)
    counts = loaders.load("flip_counts", a, b, category)
    found: list[FlipRow] = loaders.load("flips", a, b, direction, category)
    st.markdown(
        f"Both answered **{counts.both:,}** questions. "
        f"B scores higher than A on **{counts.better:,}** of them and lower on **{counts.worse:,}**."
    )
    if not found:
        st.info("No sample fits these filters: the two cells agree here. “All samples” shows their masks anyway.")
        st.stop()
    if view == "grid":
        _grid(found, (a, b))
    else:
        _one(found, (first, second), (a, b))


def _pair(cells: Sequence[CellRow]) -> tuple[CellRow, CellRow]:
    models = list(dict.fromkeys(cell.model for cell in cells))
    one, two = st.columns(2)
    with one:
        model = filters.choose("Model", models, "model_one")
    own = [(name, cell) for name, cell in zip(_names(cells), cells, strict=True) if cell.model == model]
    with two:
        benchmark = filters.choose("Benchmark", list(dict.fromkeys(cell.benchmark for _, cell in own)), "on")
    own = [(name, cell) for name, cell in own if cell.benchmark == benchmark]
    own.sort(key=lambda named: (palette.rank(named[1].method), -named[1].retention_ratio, named[1].seed))
    by_name = dict(own)
    options = list(by_name)
    start = next((n for n in options if by_name[n].method == FULL), options[0])
    pruned = [n for n in options if n != start]
    wanted = next((n for n in pruned if n.startswith("hero") and "20%" in n), pruned[0] if pruned else start)
    one, two = st.columns(2)
    with one:
        first = filters.choose("A", options, "a", start)
    with two:
        second = filters.choose("B", options, "b", wanted)
    return by_name[first], by_name[second]


def _names(cells: Sequence[CellRow]) -> list[str]:
    """A name for each; the same cell of two runs is two, and compares a run with its repetition."""
    names = name_all(cells)
    told = [f"{name}{seed}" for name, seed in zip(names, seeds_told(cells, names), strict=True)]
    if len({cell.run_id for cell in cells}) == 1:
        return told
    return [filters.in_run(name, cell.run_id) for cell, name in zip(cells, told, strict=True)]


def _narrow(benchmark: str) -> tuple[str, str | None, str]:
    left, middle, right = st.columns([3, 2, 2])
    with left:
        direction = filters.toggle("Show samples where", list(DIRECTIONS), "direction", lambda key: DIRECTIONS[key])
    with middle:
        view = filters.toggle("As", list(VIEWS), "view", lambda key: VIEWS[key])
    categories = loaders.load("categories", benchmark)
    if not categories:
        return direction, None, view
    with right:
        category = filters.choose("Category", ["all", *categories], "category")
    return direction, None if category == "all" else category, view


def _one(found: Sequence[FlipRow], cells: Sequence[CellRow], refs: Sequence[CellRef]) -> None:
    row = found[samples.stepper(len(found)) - 1]
    sample = samples.load(row.sample_id)
    if sample is None:
        st.warning("This sample is no longer in the database.")
        return
    given = loaders.read(stored.answers, row.sample_id, refs)
    samples.question(sample, told=True)
    samples.pair(cells, sample, given)


def _grid(found: Sequence[FlipRow], refs: Sequence[CellRef]) -> None:
    """Many disagreements at once, small; each opens large."""
    pages = -(-len(found) // GRID)
    page = samples.stepper(pages, "Page", "page") if pages > 1 else 1
    start = (page - 1) * GRID
    shown = list(enumerate(found[start : start + GRID], start + 1))
    for row in (shown[at : at + 4] for at in range(0, len(shown), 4)):
        for column, (at, flip) in zip(st.columns(4), row, strict=False):
            with column, st.container(border=True):
                _small(at, flip, refs)


def _small(at: int, row: FlipRow, refs: Sequence[CellRef]) -> None:
    sample = samples.load(row.sample_id)
    if sample is None:
        return
    given = loaders.read(stored.answers, row.sample_id, refs)
    samples.picture(sample)
    st.markdown(f"**{plain(sample.question)}**")
    st.caption(f"Expected: {plain(expected(sample.reference, 3))}")
    said = [
        f"{letter}: “{given[ref].text}” ({score:g})" if ref in given else f"{letter}: no answer stored"
        for letter, ref, score in zip("AB", refs, (row.score_a, row.score_b), strict=True)
    ]
    st.markdown("  \n".join(map(plain, said)))
    st.button("Large", key=f"open-{at}", on_click=_open, args=(at,), help=f"Sample {at} with the tokens kept")


def _open(at: int) -> None:
    st.session_state["at"], st.session_state["view"] = at, "one"


with loaders.guard():
    main()
