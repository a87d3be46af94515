"""Try it: one picture, one question, one method beside full tokens, with what each keeps and costs."""

from __future__ import annotations

import os
from typing import Any

import streamlit as st
from PIL import Image

from dashboard import filters, loaders, service, trial
from dashboard.loaders import plain
from dashboard.trial import TriedAnswer
from hero_ray.methods import names as method_names
from hero_ray.models import names as model_names
from hero_ray.results.shown import palette

# Comma-separated names, hub ids or folders to offer instead of the embedded models.
MODELS = "HERO_RAY_TRY_MODELS"
# Address of a running service, asked instead of a model in this process, and its bearer token.
SERVICE = "HERO_RAY_API"
TOKEN = "HERO_RAY_API_TOKEN"
BUDGETS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0]


def main() -> None:
    """Form on the left, picture on the right, both answers below."""
    st.title("Try it")
    left, right = st.columns(2)
    with left:
        model_name, method, ratio = _settings()
        source, picture, question = _picture()
    with right:
        if picture is not None:
            st.image(picture, width="stretch", alt="The picture in question", caption=source)
    if picture is None:
        st.info("Upload a picture or take an example.")
        return
    question = left.text_input("Question", question, max_chars=400, key=f"question-{source}")
    if left.button("Ask", type="primary", disabled=not question.strip()):
        st.session_state["trial"] = _ask(model_name, picture, question.strip(), method, ratio)
    if "trial" in st.session_state:
        _show(*st.session_state["trial"])


def _settings() -> tuple[str, str, float]:
    named = [name for name in os.environ.get(MODELS, "").split(",") if name]
    model = filters.choose("Model", named or [name for name in model_names() if name.startswith("hero-tiny")], "model")
    methods = sorted((name for name in method_names() if name != "full"), key=palette.rank)
    one, two = st.columns(2)
    with one:
        method = filters.choose("Method", methods, "method_one", "hero")
    with two:
        ratio = filters.choose("Keep", BUDGETS, "keep", 0.2, format_func=lambda value: f"{100 * value:g} % of tokens")
    return model, method, float(ratio)


def _picture() -> tuple[str, Image.Image | None, str]:
    examples = {name: (question, picture) for name, question, picture in _examples()}
    upload = st.file_uploader("Picture", type=["png", "jpg", "jpeg", "webp"], max_upload_size=20)
    if upload is not None:
        return upload.name, trial.open_upload(upload.getvalue()), "What is in the picture?"
    chosen = filters.choose("or an example", list(examples), "example")
    question, picture = examples[chosen]
    return f"generated example: {chosen}", picture, question


@st.cache_data(show_spinner=False)
def _examples() -> list[tuple[str, str, Image.Image]]:
    return trial.examples()


@st.cache_resource(max_entries=1, show_spinner="Loading the model …")
def _model(name: str) -> Any:
    return trial.load_model(name)


def _ask(
    model_name: str, picture: Image.Image, question: str, method: str, ratio: float
) -> tuple[TriedAnswer, TriedAnswer]:
    url = os.environ.get(SERVICE)
    if url:
        with st.spinner("Asking the service …"):
            return service.ask(url, os.environ.get(TOKEN), model_name, picture, question, method, ratio)
    model = _model(model_name)
    with st.spinner("Answering twice …"):
        full = trial.ask(model, picture, question, "full", 1.0)
        return full, trial.ask(model, picture, question, method, ratio)


def _show(full: TriedAnswer, pruned: TriedAnswer) -> None:
    for column, answer in zip(st.columns(2), (full, pruned), strict=True):
        with column:
            st.header(plain(answer.method))
            st.markdown(f"### “{plain(answer.text) or '(empty)'}”")
            if answer.note:
                st.caption(plain(answer.note))
            for panel in reversed(answer.panels):
                st.image(panel.png(), width="stretch", alt=f"{panel.title}: {panel.kept} of {panel.total} kept")
                tiles = f"; per tile {', '.join(map(str, panel.per_tile))}" if panel.per_tile else ""
                st.caption(f"{plain(panel.title)}: {panel.kept} of {panel.total} tokens kept{tiles}")
    st.header("Ledger")
    st.dataframe(trial.ledger(full, pruned), hide_index=True)
    st.caption("Answers of the small embedded model show the tool at work, not what a method does to a real model.")


with loaders.guard():
    main()
