"""A question with its picture, what a cell answered, and the tokens it kept: how Flips and Search show a sample."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import streamlit as st

from dashboard import loaders
from dashboard.loaders import plain
from hero_ray.benchmarks.images import decode
from hero_ray.core.errors import ImageError
from hero_ray.results import masks
from hero_ray.results.cards import expected
from hero_ray.results.names import budget_of
from hero_ray.results.shown import palette
from hero_ray.store import CellRow
from hero_ray.store import answers as stored
from hero_ray.store.answers import AnswerRow, CellRef, SampleRow


def stepper(last: int, noun: str = "Sample", key: str = "at") -> int:
    """Previous, a number bound to `?at=`, next; the arrow keys do the same. Gives the number, from 1."""

    def step(by: int) -> None:
        st.session_state[key] = min(max(1, st.session_state.get(key, 1) + by), last)

    if st.session_state.get(key, 1) > last:
        st.session_state[key] = last
    back, number, forth = st.columns([1, 2, 1], vertical_alignment="bottom")
    back.button("Previous", on_click=step, args=(-1,), shortcut="left", width="stretch", key="previous")
    at = number.number_input(f"{noun} of {last:,}", 1, last, key=key, bind="query-params")
    forth.button("Next", on_click=step, args=(1,), shortcut="right", width="stretch", key="next")
    return int(at)


def question(sample: SampleRow, told: bool = False) -> None:
    """The question, what was expected, and where it comes from.

    Args:
        told: whoever hears the page is told the question when it changes, as after an arrow key.
    """
    where = ", ".join(filter(None, (sample.sample_key, sample.category)))
    with st.container(border=True):
        st.html(f"<b{' role=alert' if told else ''}>{html.escape(sample.question)}</b>")
        st.caption(f"Expected: {plain(expected(sample.reference))}  |  {plain(where)}")


def pair(cells: Sequence[CellRow], sample: SampleRow, given: Mapping[CellRef, AnswerRow]) -> None:
    """What two cells answered, and below both answers the pictures: on a telephone, too, the answers stand together."""
    found = [given.get(CellRef(cell.run_id, cell.id)) for cell in cells]
    for column, letter, cell, one in zip(st.columns(2), "AB", cells, found, strict=True):
        with column:
            _answer(letter, cell, one)
    for column, cell, one in zip(st.columns(2), cells, found, strict=True):
        with column:
            if one is not None and not one.error_type:
                _panels(cell, sample, one, palette.look(cell.method, cell.straw_man).colour)


def _answer(letter: str, cell: CellRow, given: AnswerRow | None) -> None:
    look = palette.look(cell.method, cell.straw_man)
    name = f"{letter}: {cell.method} at {budget_of(cell)}"
    st.html(f'<b style="border-left:.5rem solid {look.colour};padding-left:.5rem">{html.escape(name)}</b>')
    if given is None:
        st.info("No answer is stored.")
        return
    if given.error_type:
        st.error(plain(f"{given.error_type}: {given.error_message}"))
        return
    score = "not scored" if given.score is None else f"score {given.score:g}"
    st.markdown(f"“{plain(given.text) or '(empty)'}” · {score}")
    if given.n_visual_llm is not None:
        st.caption(f"{given.n_selected:,} patch tokens kept, {given.n_visual_llm:,} visual tokens enter the LLM")


def picture(sample: SampleRow) -> None:
    """The stored small copy of a sample's picture, or why there is none."""
    if sample.thumbnail is None:
        st.caption("The picture was not kept.")
        return
    try:
        st.image(decode(sample.thumbnail), width="stretch", alt=f"Picture of {sample.sample_key}")
    except ImageError as error:
        st.caption(plain(f"The stored picture cannot be shown: {error}"))


def _panels(cell: CellRow, sample: SampleRow, given: AnswerRow, colour: str) -> None:
    if sample.thumbnail is None or given.keep_mask is None or given.geometry is None:
        picture(sample)
        st.caption("There is no mask to draw on it.")
        return
    family = str((cell.spec.get("model") or {}).get("family") or cell.model)
    size = (sample.width, sample.height)
    try:
        views = masks.panels(decode(sample.thumbnail), size, given.keep_mask, given.geometry, family, colour)
    except ImageError as error:
        st.caption(plain(f"The stored picture cannot be shown: {error}"))
        return
    except ValueError as problem:
        st.warning(plain(f"The stored mask cannot be drawn: {problem}"))
        return
    for view in reversed(views):
        st.image(view.png(), width="stretch", alt=f"{view.title}: {view.kept} of {view.total} tokens kept")
        tiles = f"; per tile {', '.join(map(str, view.per_tile))}" if view.per_tile else ""
        st.caption(f"{plain(view.title)}: {view.kept} of {view.total} tokens kept{tiles}")


def link(text: str, page: str, query: list[tuple[str, str]]) -> None:
    """A link to a page of this dashboard with its filters set, in the same tab."""
    address = html.escape(f"{page}?{urlencode(query)}")
    st.html(f'<a href="{address}" target="_self" style="color:inherit">{html.escape(text)}</a>')


def load(sample_id: str) -> SampleRow | None:
    """A question with its picture."""
    return loaders.read(stored.sample, sample_id)
