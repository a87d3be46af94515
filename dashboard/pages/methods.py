"""Methods: one method's figures, where it fails beside the unpruned model, and three typical flips."""

from __future__ import annotations

import streamlit as st

from dashboard import filters, loaders, samples
from dashboard.loaders import plain
from hero_ray.results.cards import MethodCard, TypicalFlip, methods, told
from hero_ray.results.names import EMBEDDED_NOTE, is_embedded
from hero_ray.results.shown import palette
from hero_ray.results.writer import Grid
from hero_ray.store import answers as stored
from hero_ray.store.answers import CellRef


def main() -> None:
    """Choose a method; its card from top to bottom."""
    st.title("Methods")
    runs = filters.pick_runs()
    ids = filters.ids(runs)
    if not loaders.load("marks", ids, None, None, ""):
        filters.nothing_measured(runs)
    found = {each.model: each for each in loaders.results(ids)}
    left, right = st.columns(2)
    with left:
        model = filters.choose("Model", list(found), "model_one")
    names = methods(found[model])
    if not names:
        st.info("These runs hold the unpruned model alone.")
        st.stop()
    with right:
        own = next((name for name in ("hero", *names) if name in names), names[0])
        method = filters.choose("Method", sorted(names, key=palette.rank), "card", own)
    with st.spinner("Testing pairs …"):
        card: MethodCard = loaders.load("card", ids, model, method)
    st.header("Figures")
    _table(card.figures)
    st.header("Against the unpruned model")
    if card.lost is None:
        st.info("These runs hold no unpruned cells, so there is nothing to lose against.")
        return
    _table(card.lost)
    _failures(card)
    if is_embedded(model):
        st.caption(EMBEDDED_NOTE)


def _table(grid: Grid) -> None:
    titles = [column.title for column in grid.columns]
    st.dataframe([dict(zip(titles, row, strict=True)) for row in grid.texts()], hide_index=True)


def _failures(card: MethodCard) -> None:
    st.header(f"Where {plain(card.at)} fails")
    if card.failing is not None:
        _table(card.failing)
        st.caption("Categories furthest below the unpruned model; differences without a test, so read n beside them.")
    elif not card.flips:
        st.write("It loses no question that the unpruned model answers.")
    for flip in card.flips:
        _flip(flip)


def _flip(one: TypicalFlip) -> None:
    st.markdown(f"**{plain(told(one))}**")
    sample = samples.load(one.flip.sample_id)
    if sample is None:
        st.caption("This sample is no longer in the database.")
        return
    refs = [CellRef(cell.run_id, cell.id) for cell in (one.full, one.own)]
    given = loaders.read(stored.answers, one.flip.sample_id, refs)
    samples.question(sample)
    samples.pair((one.full, one.own), sample, given)


with loaders.guard():
    main()
