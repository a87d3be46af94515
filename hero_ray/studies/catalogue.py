"""The studies by name; nothing heavy is imported before one is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hero_ray.core.errors import UnknownNameError

if TYPE_CHECKING:
    from hero_ray.studies.records import Study, StudyRequest

STUDIES: Mapping[str, str] = {
    "tile-importance": "HERO Table I: answers from the thumbnail and the k-th ranked tile",
    "layer-similarity": "HERO Fig. 2: cosine of CLS attention between vision layers, and the cut into two stages",
    "layer-iou": "HERO Fig. 4: most attended patches against salient masks, by layer",
    "token-roles": "HERO Table II: answers from early-layer and from late-layer tokens",
    "caption-judge": "HERO Table III: captions from both kinds of tokens, rated by a judge model",
    "attention-maps": "HERO Figs. 8-9, PTP Figs. 7-9: what CLS and the question attend to",
    "second-question": "ours: later questions answered from the tokens chosen for the first, by every method",
    "engines": "ours: the same cells on our own blocks and on vLLM: answers, scores, times, cache",
    "case-study": "HERO Fig. 6, PTP Fig. 4: the tokens every method keeps, side by side",
}

LOADED: Mapping[str, Mapping[str, str]] = {"engines": {"engine": "auto"}}
"""How a study's model is loaded, beside what is asked for."""


def names() -> tuple[str, ...]:
    """Every study."""
    return tuple(STUDIES)


def get(name: str) -> Callable[[StudyRequest], Study]:
    """What runs a study.

    Raises:
        UnknownNameError: no such study.
    """
    if name not in STUDIES:
        raise UnknownNameError("study", name, (*STUDIES, "verify-paper", "paper-tables"))
    run: Callable[[StudyRequest], Study] = importlib.import_module(f"hero_ray.studies.{name.replace('-', '_')}").run
    return run
