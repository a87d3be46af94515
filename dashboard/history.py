"""The list of runs with what people say of them, and the two things a visitor may write where it is allowed."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import streamlit as st

from dashboard import filters, loaders
from dashboard.loaders import plain
from hero_ray.core.errors import HeroRayError
from hero_ray.store import RunRow, default_url, open_store
from hero_ray.store import described as words

ALLOWED = "HERO_RAY_DASHBOARD_CANCEL"
"""Set to 1 (`hero-ray dashboard --allow-cancel`) to let visitors stop sweeps and say what a run is."""


def may_write() -> bool:
    """Whether visitors of this dashboard may stop sweeps and name runs."""
    return os.environ.get(ALLOWED) == "1"


def cancel(run_id: str) -> None:
    """Ask whoever works on a run to stop after its current unit."""
    with open_store(default_url(), upgrade=False) as writable:
        writable.request_cancel(run_id)


def table(found: list[RunRow]) -> None:
    """Runs, newest first, narrowed down by tag and by a text in their id, sweep, name or note."""
    st.header("History")
    tags = sorted({tag for run in found for tag in run.tags})
    left, right = st.columns(2)
    with left:
        text = st.text_input("Find", key="find", bind="query-params", placeholder="id, sweep, name or note")
    with right:
        wanted = set(filters.several("Tags", tags, "tag", []) if tags else [])
    shown = [run for run in found if wanted <= set(run.tags) and matches(run, text)]
    if not shown:
        st.info("No run fits. Clear the text or the tags.")
        return
    sizes = loaders.load("sizes")
    rows = [_row(run, *sizes.get(run.id, (0, 0, 0))) for run in shown]
    st.dataframe(rows, hide_index=True, height=min(36 * len(rows) + 40, 320))


def matches(run: RunRow, text: str) -> bool:
    """Whether every word of a text stands somewhere in what a run is called."""
    said = " ".join((run.id, run.sweep_name, run.name, run.note, *run.tags)).casefold()
    return all(word in said for word in text.casefold().split())


def _row(run: RunRow, cells: int, expected: int, figures: int) -> dict[str, Any]:
    return {
        "sweep": run.sweep_name,
        "name": run.name,
        "tags": list(run.tags),
        "run": run.id,
        "status": run.status,
        "begun": run.created_at.strftime("%Y-%m-%d %H:%M"),
        "took": _took(run),
        "cells": cells,
        "with figures": figures,
        "answers": expected,
        "note": run.note,
        "trigger": run.trigger,
        "commit": (run.git_commit or "")[:10],
    }


def _took(run: RunRow) -> str:
    if not run.started_at or not run.finished_at:
        return ""
    return str(timedelta(seconds=round((run.finished_at - run.started_at).total_seconds())))


def described(run: RunRow) -> None:
    """What people say of a run; where it is allowed, a form to change it."""
    said = [f"**{plain(run.name)}**"] if run.name else []
    said += [plain(f"#{tag}") for tag in run.tags]
    if said:
        st.markdown(" · ".join(said))
    if run.note:
        st.markdown(plain(run.note))
    if not may_write():
        if not (said or run.note):
            st.caption(
                plain(f"Without a name: hero-ray describe {run.id} --name NAME --tags A,B --note TEXT gives one.")
            )
        return
    with st.expander("Name, tags and note"), st.form(f"describe-{run.id}", border=False):
        name = st.text_input("Name", run.name, max_chars=words.NAME_MAX)
        tags = st.text_input("Tags, with commas between", ", ".join(run.tags))
        note = st.text_area("Note", run.note, max_chars=words.NOTE_MAX)
        if st.form_submit_button("Save"):
            _write(run.id, name, tags.split(","), note)


def _write(run_id: str, name: str, tags: list[str], note: str) -> None:
    try:
        with open_store(default_url(), upgrade=False) as writable:
            writable.transaction(words.describe, run_id, name, tags, note)
    except HeroRayError as problem:
        st.error(plain(str(problem)))
        return
    loaders.forget()
    st.rerun()
