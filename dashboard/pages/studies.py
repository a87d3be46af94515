"""Studies: curves over parameters measured here, the studies' own figures, and the papers' ablations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import figures, filters, loaders, study_figures
from dashboard.loaders import plain
from hero_ray.results import published

# Environment variable that names the folder of study files; `./studies` without it.
FOLDER = "HERO_RAY_STUDIES"


def main() -> None:
    """Three kinds of figures, the measured ones first."""
    st.title("Studies")
    with loaders.guard():
        stored = loaders.load("studies")
        if loaders.runs() or not stored:  # studies alone fill the page, too; an empty database explains itself
            _measured(filters.ids(filters.pick_runs()))
    _studies(stored)
    _printed()


def _measured(run_ids: tuple[str, ...]) -> None:
    st.header("Measured: score over a parameter")
    marks = loaders.load("marks", run_ids, None, None, "")
    varied = study_figures.varied(marks)
    if not varied:
        st.info(
            "No method was measured at three or more values of one parameter in these runs. A sweep with "
            "`--methods hero:alpha=0,hero:alpha=0.5,hero:alpha=1` gives the curve over alpha."
        )
        return
    keys = {f"{method}: {name}": (method, name) for method, name in varied}
    method, name = keys[filters.choose("Parameter", list(keys), "parameter")]
    curves = study_figures.parameter_curve(marks, method, name)
    figure = study_figures.lines(curves[:16], name, "score")
    st.plotly_chart(figure, config=figures.CONFIG, key="parameter-curve", alt=f"Score of {method} over {name}")


def _studies(stored: Sequence[Mapping[str, Any]]) -> None:
    """The newest execution of every study in the database, then those that are files only."""
    st.header("Studies of the papers")
    found = {f"{row['name']}, {row['model']}": (row["result"], _when(row)) for row in stored}
    known = {row["name"] for row in stored}
    folder = Path(os.environ.get(FOLDER) or "studies")
    for path in sorted(folder.glob("*.json")):
        document = study_figures.read_file(path)
        if document is not None and document.get("study", path.stem) not in known:
            found[path.stem] = (document, f"file {path.name}")
    readable = {name: (study, when) for name, (doc, when) in found.items() if (study := study_figures.read_study(doc))}
    if not readable:
        st.info("No study has left its figures yet. `hero-ray study NAME` writes them.")
        return
    study, when = readable[filters.choose("Study", list(readable), "study")]
    st.markdown(f"**{plain(study['title'])}**")
    st.caption(plain(" · ".join(filter(None, (study["note"], when)))))
    for i, (title, figure) in enumerate(study["charts"]):
        if title:
            st.markdown(plain(title))
        st.plotly_chart(figure, config=figures.CONFIG, key=f"study-{i}", alt=title or study["title"])
    for stem, picture in study["pictures"].items():
        st.image(picture, width="content", caption=plain(stem))
    for title, columns, rows in study["tables"]:
        with st.expander(f"Table: {plain(title)}"):
            st.dataframe([dict(zip(columns, row, strict=False)) for row in rows], hide_index=True)


def _when(row: Mapping[str, Any]) -> str:
    commit = str(row["git_commit"] or "")
    return f"{row['created_at']:%d %b %Y}" + (f", commit {commit[:12]}" if commit else "")


def _printed() -> None:
    st.header("Printed in the papers")
    name = filters.choose("Ablation", list(study_figures.PRINTED), "ablation")
    curves, x_title, y_title = study_figures.printed_curves(published.ablations(), name)
    figure = study_figures.lines(curves, x_title, y_title)
    st.plotly_chart(figure, config=figures.CONFIG, key="printed", alt=name)
    st.caption(
        "Relative to the first value printed for a benchmark. Values that contradict another table are left out."
    )


main()
