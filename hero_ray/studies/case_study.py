"""HERO Fig. 6 and PTP Fig. 4: the tokens every method keeps of a picture, side by side, with its answer."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from hero_ray.core.encoded import Selection
from hero_ray.engine.cut import Picture, Pruning, cut, generate, needs_of
from hero_ray.methods import create
from hero_ray.methods.base import Method
from hero_ray.models.base import Request as Answer
from hero_ray.results.masks import Geometry, panels
from hero_ray.studies import asking
from hero_ray.studies.drawing import sheet
from hero_ray.studies.records import FigureTable, Study, StudyRequest

NAME = "case-study"
TASKS = ("synth-words", "synth-attribute")
METHODS = ("random", "spatial", "fastervlm", "hired", "globalcom2", "prumerge", "ptp", "hero")
COLOUR = "#D55E00"


def comparable(names: tuple[str, ...]) -> dict[str, Method]:
    """Methods that choose tokens before the LLM; the others keep none to show."""
    found = {name: create(name) for name in names}
    return {name: method for name, method in found.items() if method.stage == "before-llm"}


def drawn(image: Image.Image, selection: Selection, geometry: Geometry, family: str) -> Image.Image:
    """The most detailed view of a selection: its tiles, or the only view."""
    mask = np.packbits(selection.keep.cpu().numpy().reshape(-1)).tobytes()
    picture = Image.open(BytesIO(panels(image, image.size, mask, geometry, family, COLOUR)[-1].png()))
    picture.thumbnail((300, 300))
    return picture.convert("RGB")


def _listed(references: object) -> list[object]:
    return list(references) if isinstance(references, list | tuple) else [references]


def run(request: StudyRequest) -> Study:
    """A sheet for the first question about each of `limit` pictures."""
    adapter = request.adapter
    methods = comparable(request.methods or METHODS)
    prunings = [Pruning(method, request.ratio) for method in methods.values()]
    needs = needs_of(prunings, adapter.vision)
    pictures: dict[str, Image.Image] = {}
    rows = []
    for number, (image, asked) in enumerate(asking.pictures(asking.opened(request, TASKS), request.limit), start=1):
        benchmark, sample = asked[0]
        picture = Picture(adapter, image, sample.image_key, needs)
        prompt = asking.prompt_of(adapter, benchmark, sample)
        cuts = [cut(picture, pruning, sample.question, prompt) for pruning in prunings]
        answers = generate(adapter, [Answer(prompt, made.visual, benchmark.max_new_tokens) for made in cuts], cuts)
        geometry = (*picture.layout.grid, *picture.layout.side)
        tiles = []
        for name, made, answer in zip(methods, cuts, answers, strict=True):
            kept = made.selection.n_selected
            tiles.append(
                (f"{name} ({kept}): {answer.text}"[:44], drawn(image, made.selection, geometry, adapter.info.family))
            )
            rows.append((number, sample.question, str(sample.references), name, kept, answer.text))
        heading = f"{sample.question} (answer: {', '.join(map(str, _listed(sample.references)))})"
        pictures[f"{NAME}-{number}"] = sheet(tiles, 4, heading)
    note = (
        f"{request.ratio:.0%} of the tokens, {adapter.info.name}; kept tokens are outlined, the count is in brackets. "
        "Single pictures show how methods differ, not which is better."
    )
    columns = ("picture", "question", "reference", "method", "tokens", "answer")
    return Study(
        NAME,
        "What each method keeps (HERO Fig. 6, PTP Fig. 4)",
        note,
        tables=(FigureTable("Answers", columns, tuple(rows)),),
        pictures=pictures,
        findings={"methods": list(methods), "pictures": len(pictures)},
    )
