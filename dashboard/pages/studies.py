"""Studies: curves over parameters measured here, the studies' own figures, and the papers' ablations."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from dashboard import figures, filters, loaders, study_figures
from hero_ray import published

# Environment variable that names the folder of study files; `./studies` without it.
FOLDER = "HERO_RAY_STUDIES"


def main() -> None:
    """Three kinds of figures, the measured ones first."""
    st.title("Studies")
    with loaders.guard():
        runs = filters.pick_runs()
        _measured(filters.ids(runs))
    _files()
    _printed()


def _measured(run_ids: tuple[str, ...]) -> None:
    st.subheader("Measured: score over a parameter")
    points = loaders.load("points", run_ids)
    varied = study_figures.varied(points)
    if not varied:
        st.info(
            "No method was measured at three or more values of one parameter in these runs. A sweep with "
            "`--methods hero:alpha=0,hero:alpha=0.5,hero:alpha=1` gives the curve over alpha."
        )
        return
    keys = {f"{method}: {name}": (method, name) for method, name in varied}
    method, name = keys[filters.choose("Parameter", list(keys), "parameter")]
    curves = study_figures.parameter_curve(points, method, name)
    figure = study_figures.lines(curves[:16], name, "score")
    st.plotly_chart(figure, config=figures.CONFIG, key="parameter-curve", alt=f"Score of {method} over {name}")


def _files() -> None:
    folder = Path(os.environ.get(FOLDER) or "studies")
    found = [study for path in sorted(folder.glob("*.json")) if (study := study_figures.read_study(path))]
    for study in found:
        st.subheader(study["title"])
        if study["note"]:
            st.caption(study["note"])
        for i, (title, figure) in enumerate(study["charts"]):
            if title:
                st.markdown(f"**{title}**")
            key = f"study-{study['title']}-{i}"
            st.plotly_chart(figure, config=figures.CONFIG, key=key, alt=title or study["title"])
    if not found:
        st.subheader("Layer similarity, layer IoU, tile ranking")
        st.info("No study has left its figures yet. `hero-ray study NAME` writes them.")


def _printed() -> None:
    st.subheader("Printed in the papers")
    name = filters.choose("Ablation", list(study_figures.PRINTED), "ablation")
    curves, x_title, y_title = study_figures.printed_curves(published.ablations(), name)
    figure = study_figures.lines(curves, x_title, y_title)
    st.plotly_chart(figure, config=figures.CONFIG, key="printed", alt=name)
    st.caption(
        "Relative to the first value printed for a benchmark. Values that contradict another table are left out."
    )


main()
