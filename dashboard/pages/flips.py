"""Flips: samples on which two cells disagree, with the tokens each of them kept drawn on the picture."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from dashboard import filters, loaders
from dashboard.loaders import plain
from hero_ray.benchmarks.images import decode
from hero_ray.core.errors import ImageError
from hero_ray.results import masks
from hero_ray.results.names import FULL, budget_of, name_all, seeds_told
from hero_ray.results.shown import palette
from hero_ray.store import CellRow
from hero_ray.store import answers as stored
from hero_ray.store.answers import AnswerRow, CellRef, SampleRow
from hero_ray.store.flips import FlipRow

DIRECTIONS = {"worse": "B loses", "better": "B wins", "any": "either", "all": "all samples"}


def main() -> None:
    """Choose two cells, page through their disagreements."""
    st.title("Flips")
    runs = filters.pick_runs()
    cells = [cell for run in runs for cell in loaders.load("cells", run.id) if cell.n_done]
    if len({cell.id for cell in cells}) < 2:
        st.info("Flips compare two cells with answers; the chosen runs hold fewer. Choose another run in the sidebar.")
        st.stop()
    first, second = _pair(cells)
    direction, category = _narrow(second.benchmark)
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
    _one(found, first, second)


def _pair(cells: Sequence[CellRow]) -> tuple[CellRow, CellRow]:
    models = list(dict.fromkeys(cell.model for cell in cells))
    one, two = st.columns(2)
    with one:
        model = filters.choose("Model", models, "model_one")
    own = [cell for cell in cells if cell.model == model]
    with two:
        benchmark = filters.choose("Benchmark", list(dict.fromkeys(c.benchmark for c in own)), "on")
    own = [cell for cell in own if cell.benchmark == benchmark]
    own.sort(key=lambda cell: (palette.rank(cell.method), -cell.retention_ratio, cell.seed))
    names = _names(own)
    by_name = {names[cell.id]: cell for cell in own}
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


def _names(cells: Sequence[CellRow]) -> dict[str, str]:
    names = name_all(cells)
    several_runs = len({cell.run_id for cell in cells}) > 1
    return {
        cell.id: f"{name}{seed}" + (f" in {filters.short_id(cell.run_id)}" if several_runs else "")
        for cell, name, seed in zip(cells, names, seeds_told(cells, names), strict=True)
    }


def _narrow(benchmark: str) -> tuple[str, str | None]:
    left, right = st.columns(2)
    with left:
        direction = filters.toggle("Show samples where", list(DIRECTIONS), "direction", lambda key: DIRECTIONS[key])
    categories = loaders.load("categories", benchmark)
    if not categories:
        return direction, None
    with right:
        category = filters.choose("Category", ["all", *categories], "category")
    return direction, None if category == "all" else category


def _step(by: int, last: int) -> None:
    st.session_state["at"] = min(max(1, st.session_state.get("at", 1) + by), last)


def _one(found: Sequence[FlipRow], first: CellRow, second: CellRow) -> None:
    last = len(found)
    if st.session_state.get("at", 1) > last:
        st.session_state["at"] = last
    back, number, forth = st.columns([1, 2, 1], vertical_alignment="bottom")
    back.button("Previous", on_click=_step, args=(-1, last), shortcut="left", width="stretch", key="previous")
    at = number.number_input(f"Sample of {last:,}", 1, last, key="at", bind="query-params")
    forth.button("Next", on_click=_step, args=(1, last), shortcut="right", width="stretch", key="next")
    row = found[int(at) - 1]
    sample = loaders.read(stored.sample, row.sample_id)
    refs = [CellRef(first.run_id, first.id), CellRef(second.run_id, second.id)]
    answers = loaders.read(stored.answers, row.sample_id, refs)
    if sample is None:
        st.warning("This sample is no longer in the database.")
        return
    _question(sample, row)
    columns = st.columns(2)
    for column, letter, cell, ref in zip(columns, "AB", (first, second), refs, strict=True):
        with column:
            _answer(letter, cell, sample, answers.get(ref))


def _question(sample: SampleRow, row: FlipRow) -> None:
    references = sample.reference if isinstance(sample.reference, list) else [sample.reference]
    accepted = " · ".join(dict.fromkeys(str(reference) for reference in references[:8]))
    with st.container(border=True):
        st.markdown(f"**{plain(sample.question)}**")
        st.caption(f"Expected: {plain(accepted)}  |  {plain(', '.join(filter(None, (row.sample_key, row.category))))}")


def _answer(letter: str, cell: CellRow, sample: SampleRow, answer: AnswerRow | None) -> None:
    look = palette.look(cell.method, cell.straw_man)
    name = f"{letter}: {cell.method} at {budget_of(cell)}"
    st.html(f'<b style="border-left:.5rem solid {look.colour};padding-left:.5rem">{html.escape(name)}</b>')
    if answer is None:
        st.info("No answer is stored.")
        return
    if answer.error_type:
        st.error(plain(f"{answer.error_type}: {answer.error_message}"))
        return
    score = "not scored" if answer.score is None else f"score {answer.score:g}"
    st.markdown(f"“{plain(answer.text) or '(empty)'}” · {score}")
    if answer.n_visual_llm is not None:
        st.caption(f"{answer.n_selected:,} patch tokens kept, {answer.n_visual_llm:,} visual tokens enter the LLM")
    _panels(cell, sample, answer, look.colour)


def _panels(cell: CellRow, sample: SampleRow, answer: AnswerRow, colour: str) -> None:
    if sample.thumbnail is None:
        st.caption("The picture was not kept, so there is nothing to draw on.")
        return
    try:
        picture = decode(sample.thumbnail)
    except ImageError as error:
        st.caption(f"The stored picture cannot be shown: {error}")
        return
    if answer.keep_mask is None or answer.geometry is None:
        st.image(picture, width="stretch", alt="The picture")
        st.caption("No mask is stored for this answer.")
        return
    family = str((cell.spec.get("model") or {}).get("family") or cell.model)
    size = (sample.width, sample.height)
    try:
        views = masks.panels(picture, size, answer.keep_mask, answer.geometry, family, colour)
    except ValueError as problem:
        st.warning(f"The stored mask cannot be drawn: {problem}")
        return
    for view in reversed(views):
        st.image(view.png(), width="stretch", alt=f"{view.title}: {view.kept} of {view.total} tokens kept")
        tiles = f"; per tile {', '.join(map(str, view.per_tile))}" if view.per_tile else ""
        st.caption(f"{plain(view.title)}: {view.kept} of {view.total} tokens kept{tiles}")


with loaders.guard():
    main()
